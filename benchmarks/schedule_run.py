# SPDX-License-Identifier: Apache-2.0
"""One run of ``benchmarks.schedule``: ``pipeline run`` on paced recordings, and what an observer saw of it."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.copies import copy_at_rate, due_s
from benchmarks.live_run import cpu_s
from benchmarks.schedule_figures import Seen, Sight
from benchmarks.tail import Line, Tail
from pipeline.bench.agreement import compare
from pipeline.bench.child import CONFIDENCE
from pipeline.bench.plain import Boxes
from pipeline.host.orphans import no_orphan

_LONGEST_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Feed:
    """A camera that is played.

    Attributes:
        fps, seconds: how fast and how long.
        phase: of its frames, in intervals, 0 to 1, against those of others that start with it.
        terms: further keys of its entry in streams.yaml.
    """

    name: str
    fps: float
    seconds: float
    phase: float = 0.0
    terms: Mapping[str, Any] = field(default_factory=dict)

    @property
    def first_gap(self) -> float:
        """Intervals between its first two frames."""
        return 1.0 + self.phase


@dataclass(frozen=True, slots=True)
class Workload:
    """What is run.

    Attributes:
        clip: what the cameras show; ``expected``: what a plain loop finds in each of its frames.
        model, batch: as in streams.yaml.
    """

    clip: Path
    expected: Sequence[Boxes]
    model: Path
    batch: Mapping[str, Any]

    def settings(self, streams: Sequence[Mapping[str, Any]], out: Path) -> dict[str, Any]:
        """The contents of a streams.yaml."""
        return {
            "model": {"path": str(self.model), "confidence": CONFIDENCE, "device": "cpu", "tuned": False},
            "batch": dict(self.batch),
            "streams": [dict(stream) for stream in streams],
            "sinks": [{"type": "jsonl", "path": f"{out}/{{stream}}.jsonl"}],
        }


class Metronome:
    """Wakes up ``fps`` times a second beside what is measured: how unsteady a thread is here that does nothing."""

    def __init__(self, fps: float) -> None:
        self._interval_s = 1.0 / fps
        self._over = threading.Event()
        self._woken_s: list[float] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._over.is_set():
            due_s += self._interval_s
            self._over.wait(max(0.0, due_s - time.monotonic()))
            self._woken_s.append(time.monotonic())

    def jitter_ms(self) -> float:
        """Standard deviation of the intervals between its wakings; ends it."""
        self._over.set()
        self._thread.join()
        return float(np.std(np.diff(self._woken_s[:-1])) * 1e3)


def play(workload: Workload, feeds: Sequence[Feed], folder: Path) -> Seen:
    """Run the daemon on ``feeds`` until all have ended."""
    out = folder / "out"
    out.mkdir(parents=True)
    streams = []
    for feed in feeds:
        clip = folder / f"{feed.name}.mp4"
        copy_at_rate(workload.clip, clip, fps=feed.fps, frames=round(feed.fps * feed.seconds), first_gap=feed.first_gap)
        streams.append({"name": feed.name, "source": str(clip), "pace": "realtime", "policy": "freshest", **feed.terms})
    (folder / "streams.yaml").write_text(yaml.safe_dump(workload.settings(streams, out)))
    command = [sys.executable, "-m", "pipeline", "run", str(folder / "streams.yaml"), "--json"]
    lines: list[Line] = []
    wall_ns = time.time_ns() - time.monotonic_ns()
    # The observer must not pause: its garbage collection took a third of a second after earlier runs.
    gc.disable()
    with Tail(out) as tail, (folder / "log").open("w") as log, (folder / "report").open("w") as report:
        program = subprocess.Popen(command, stderr=log, stdout=report, preexec_fn=no_orphan())
        try:
            until = time.monotonic() + _LONGEST_START_S
            while not lines:
                if program.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"no results: {(folder / 'log').read_text()[-4000:]}")
                lines += tail.lines(0.5)
            metronome = Metronome(feeds[0].fps)
            before = cpu_s(program.pid)
            until = time.monotonic() + max(feed.seconds for feed in feeds) + _LONGEST_START_S
            used = before
            while program.poll() is None and time.monotonic() < until:
                lines += tail.lines(0.5)
                used = cpu_s(program.pid)
            floor_ms = metronome.jitter_ms()
            lines += tail.lines(0.0)
        finally:
            program.kill()
            program.wait()
            gc.enable()
    told = json.loads((folder / "report").read_text())
    if program.returncode or "streams" not in told:
        raise RuntimeError(f"pipeline run ended with {program.returncode}: {(folder / 'log').read_text()[-4000:]}")
    return Seen(
        {feed.name: _sight(workload, feed, lines, wall_ns) for feed in feeds},
        told,
        cpu_s=used - before,
        floor_jitter_ms=floor_ms,
    )


def _sight(workload: Workload, feed: Feed, lines: Sequence[Line], wall_ns: int) -> Sight:
    """What was seen of one camera. The time of its first frame is the earliest that its lines allow, so that a frame
    that was read late counts as late."""
    records = [(line.seen_ns, json.loads(line.text)) for line in lines if line.file == f"{feed.name}.jsonl"]
    records = [(seen_ns, record) for seen_ns, record in records if "detections" in record]
    index = np.array([record["frame"] for _, record in records])
    due = np.array([due_s(int(frame), fps=feed.fps, first_gap=feed.first_gap) for frame in index])
    captured = np.array([datetime.fromisoformat(record["time"]).timestamp() - wall_ns / 1e9 for _, record in records])
    parts: dict[str, list[float]] = {}
    for _, record in records:
        for stage, spent_ms in record["latency_ms"].items():
            parts.setdefault(stage, []).append(spent_ms)
    ours = [[(*found["box"], found["class_id"]) for found in record["detections"]] for _, record in records]
    theirs = [workload.expected[frame % len(workload.expected)] for frame in index]
    base = float(np.min(captured - due))
    frames = round(feed.fps * feed.seconds)
    return Sight(
        fps=feed.fps,
        offered_s=base + np.array([due_s(n, fps=feed.fps, first_gap=feed.first_gap) for n in range(frames)]),
        index=index,
        captured_s=captured,
        seen_s=np.array([seen_ns / 1e9 for seen_ns, _ in records]),
        parts_ms={stage: np.array(spent) for stage, spent in parts.items()},
        share=feed.terms.get("weight", 1),
        agreement=compare([ours], [theirs], 2.5).share,
    )
