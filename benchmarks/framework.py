# SPDX-License-Identifier: Apache-2.0
"""What the framework itself costs per frame: everything but decoding, resizing and the network.

Sources hand out one ready picture, the stage only says where it lies, the detector returns at once, results go to JSONL
on the null device. Verified first: every frame arrives, in order. Then the process's CPU time per frame.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import numpy as np

from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Batch, Capture, Detections, Geometry, InputSpec, Picture, StreamInfo, Uint8Array
from pipeline.ledger import StreamLedger
from pipeline.sinks import JsonlSink
from pipeline.testing import FakeDetector, ScriptedSource
from pipeline.timing import now_ns


class ReadySource(ScriptedSource):
    """Delivers the same picture again and again."""

    picture = Picture(tuple(np.zeros(shape, np.uint8) for shape in ((1080, 1920), (540, 960), (540, 960))), "yuv")

    def __init__(self, frames: int) -> None:
        super().__init__(())
        self.left = frames
        self.index = 0

    def open(self, stop: object) -> StreamInfo:
        return StreamInfo("ready", 1920, 1080)

    def read(self) -> Capture | None:
        if self.index == self.left:
            return None
        self.index += 1
        now = now_ns()
        return Capture(self.picture, self.index - 1, self.index / 30, now, now)


class NoStage:
    """Writes nothing."""

    geometry = Geometry(1920, 1080, 352 / 1920, 198 / 1080, 0, 77)

    def spec_for(self, picture: Picture, spec: InputSpec) -> InputSpec:
        return spec

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        return self.geometry


class Nothing:
    """A finished batch with one box per picture."""

    def __init__(self, count: int) -> None:
        box = Detections(np.array([[10, 90, 50, 150]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
        self.found = [box] * count

    def wait(self) -> None:
        pass

    def result(self) -> Sequence[Detections]:
        return self.found


class NoDetector(FakeDetector):
    """Does nothing, for batches of four."""

    def submit(self, batch: Batch) -> Nothing:  # type: ignore[override]
        return Nothing(len(batch.items))


class NullSink(JsonlSink):
    """JSONL to the null device, and a count per stream."""

    def __init__(self) -> None:
        super().__init__("/dev/null", mode="append")
        self.last: dict[str, int] = {}

    def write(self, result: object) -> None:
        super().write(result)  # type: ignore[arg-type]
        stream, frame = result.stream, result.frame  # type: ignore[attr-defined]
        assert frame == self.last.get(stream, -1) + 1, "a frame is missing or out of order"
        self.last[stream] = frame


def measure(streams: int, frames: int, workers: int) -> dict[str, float]:
    """One run: CPU milliseconds per frame, and frames per second."""
    sink = NullSink()
    pipeline = Pipeline(NoDetector(spec=InputSpec(352, 352)), [sink], FlowOptions(batch_size=4, workers=workers))
    pipeline.start()
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(streams):
        pipeline.add(Stream(ReadySource(frames), [NoStage()], StreamLedger(f"s{number}")))
    pipeline.finish()
    while not pipeline.join(10):
        pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert all(last == frames - 1 for last in sink.last.values())
    assert len(sink.last) == streams
    return {"cpu_ms_per_frame": cpu / streams / frames * 1e3, "fps": streams * frames / wall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=3000, help="frames per stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = {}
    for streams in (1, 4, 100):
        runs = [measure(streams, max(50, options.frames // streams), 2) for _ in range(options.rounds)]
        figures[str(streams)] = sorted(runs, key=lambda run: run["cpu_ms_per_frame"])[len(runs) // 2]
    if options.json:
        print(json.dumps(figures))
        return
    for streams_text, run in figures.items():
        print(
            f"{streams_text:>4} streams: {run['cpu_ms_per_frame']:.3f} ms of CPU per frame, {run['fps']:.0f} frames/s"
        )


if __name__ == "__main__":
    main()
