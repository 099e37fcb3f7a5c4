# SPDX-License-Identifier: Apache-2.0
"""Recordings of arrivals, made by a flow with a detector that costs nothing, what is in them, and one of nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline import build
from pipeline.arrivals import Recorder, Recording
from pipeline.config.config import Config
from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions
from pipeline.frame import Batch
from pipeline.protocols import Sink
from pipeline.testing import FakeDetector, ListSink
from pipeline.timing import now_ns
from tests.daemons import Known

LIVE = FlowOptions(batch_size=2, fixed_batch=False, workers=1, outlet_policy="freshest", outlet_capacity=64)
DEADLINE_S = 30.0
MS = 1_000_000
BEGAN_NS = 1_000 * MS
"""What a virtual clock shows when a recording begins."""


class Nothing(Recording):
    """A recording of which only the times matter."""

    def __init__(self) -> None:
        self.wall_ns, self.first_ns = 0, 0


class Busy(Known):
    """A batch takes ``busy_s`` and as much again per picture."""

    busy_s: float = 0.0

    def submit(self, batch: Batch) -> Any:
        threading.Event().wait(self.busy_s * (1 + len(batch.items)))  # stands for work
        return super().submit(batch)


def busy(seconds: float) -> Busy:
    """One that takes its time."""
    detector = Busy()
    detector.busy_s = seconds
    return detector


def wait_until(done: Callable[[], bool], pipeline: Pipeline) -> None:
    """Until ``done``, or the flow's end; fails after the deadline."""
    deadline_ns = now_ns() + int(DEADLINE_S * 1e9)
    while not done() and not pipeline.join(0.02):
        assert now_ns() < deadline_ns, "it never came to that"


def record(
    folder: Path,
    streams: Sequence[dict[str, Any]],
    done: Callable[[Pipeline], bool] = lambda pipeline: False,
    *,
    detector: FakeDetector | None = None,
    sinks: Sequence[Sink] = (),
    recorder: Recorder | None = None,
) -> Pipeline:
    """Run these streams live, as the daemon does, and record them in ``folder``, until ``done`` or all have ended."""
    config = Config.model_validate({"streams": tuple(streams)})
    recorder = recorder or Recorder(folder, reserve_bytes=0)
    recorder.open()
    pipeline = Pipeline(detector or FakeDetector(), list(sinks) or [ListSink()], LIVE)
    model = {"path": "fake.pt", "sha256": None, "device": "cpu", "max_batch": 2, "workers": 1}
    recorder.begin(config, model, "run-1", pipeline.ledger)
    try:
        pipeline.start()
        for stream in config.streams:
            pipeline.add(build.feed(stream, recorder=recorder))
        if all(stream.source.is_file and not stream.loop for stream in config.streams):
            pipeline.finish()
        wait_until(lambda: done(pipeline), pipeline)
    finally:
        pipeline.stop()
        assert pipeline.join(DEADLINE_S)
        recorder.close()
    return pipeline


def lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file, all of them whole."""
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def processed(pipeline: Pipeline, name: str) -> int:
    """Results of a stream so far."""
    return pipeline.ledger.streams[name].processed
