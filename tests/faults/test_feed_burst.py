# SPDX-License-Identifier: Apache-2.0
"""A consumer that is ten times too slow, and a camera that sends twice as fast for a while: the newest frame wins."""

from __future__ import annotations

import itertools
import statistics
import threading

import pytest

from pipeline import build
from pipeline.config import StreamConfig
from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions
from pipeline.frame import Detections, Result
from pipeline.testing import FakeDetector, ListSink, one_box
from pipeline.timing import now_ns
from tests.background import until
from tests.faults import feeds
from tests.faults.camera import Camera, serving
from tests.media import Media, media

__all__ = ["media"]

pytestmark = pytest.mark.slow  # ages say nothing where the test's own camera has to wait for a core

FPS = 50.0
SERVICE_S = 10 / FPS
BUSY_S = 0.5
"""Others use this machine as well."""


class Ages(ListSink):
    """Notes when each result came, on the camera's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.came_ns: list[tuple[int, int]] = []

    def write(self, result: Result) -> None:
        super().write(result)
        self.came_ns.append((result.frame, now_ns()))


def slow(pixel: int) -> Detections:
    threading.Event().wait(SERVICE_S)
    return one_box(pixel)


def test_a_slow_detector_and_a_burst(media: Media) -> None:
    sent_ns: list[int] = []
    first: list[int] = []

    def on_sent(camera: str, frame: int, stamp: int, at_ns: int) -> None:
        if not first and frame % 5 == 0:  # who looks begins with a key frame
            first.append(frame)
        if first:
            sent_ns.append(at_ns)

    sink = Ages()
    options = FlowOptions(batch_size=1, fixed_batch=False, workers=1, outlet_policy="freshest")
    pipeline = Pipeline(FakeDetector(find=slow), [sink], options)
    with serving(Camera("gate", feeds.landscape(media), fps=FPS, on_sent=on_sent)) as cameras:
        pipeline.start()
        pipeline.add(build.feed(StreamConfig.model_validate({"name": "gate", "source": cameras.url("gate")})))
        until(lambda: len(sink.came_ns) >= 8, "results")
        burst = len(sink.came_ns)
        cameras.do(lambda each: setattr(each["gate"], "fps", 2 * FPS))
        until(lambda: len(sink.came_ns) >= burst + 8, "results of the burst")
        asked = len(sink.came_ns)
        pipeline.stop()
        assert pipeline.join(20), pipeline.alive()
    account = pipeline.ledger.streams["gate"]
    assert account.decoded == account.processed + account.dropped.total() + account.decimated
    assert account.dropped["overflow"] > 5 * account.processed, account.dropped
    ages_s = [(came_ns - sent_ns[frame]) / 1e9 for frame, came_ns in sink.came_ns]
    # One frame is being looked at and one waits: with it, the frame that was sent last before the detector was free.
    assert statistics.median(ages_s[1:]) < 2 * SERVICE_S, ages_s
    assert max(ages_s[1:]) < 2 * SERVICE_S + BUSY_S, ages_s
    early, late = statistics.median(ages_s[1:burst]), statistics.median(ages_s[burst + 1 :])
    assert late < 1.5 * early, "a lag that grows"
    frames = [frame for frame, _ in sink.came_ns[:asked]]
    assert all(b - a >= 5 for a, b in itertools.pairwise(frames[1:])), frames
