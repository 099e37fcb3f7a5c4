# SPDX-License-Identifier: Apache-2.0
"""What each sink costs per result, by writing some for nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline import build
from pipeline.config import Config
from pipeline.frame import Capture, Detections, Result, StreamInfo
from pipeline.protocols import Sink
from pipeline.threads import StopFlag
from pipeline.timing import cpu_ns, now_ns, wall_ns

MOST_RESULTS: Final = 200
LONGEST_S: Final = 1.5
"""Of one sink and one size of pictures. Encoders begin slowly, so a video takes that long."""


def sink_costs(
    config: Config,
    captures: Mapping[str, Capture],
    detections: Detections,
    labels: Mapping[int, str],
    fps: Mapping[str, float],
    stop: StopFlag,
) -> dict[str, dict[str, float]]:
    """CPU milliseconds per result, by sink and then by stream.

    CPU time is that of the whole process, so that it has the threads of encoders in it; nothing else may run.

    Args:
        config: with sinks that may be written to.
        captures: one of each stream. Streams with pictures of one size cost the same where a sink wants pictures, and
            all do where it does not.
        detections: what each result has.
        labels: class names by class id.
        fps: results per second of each stream.
        stop: ends it early.

    Raises SinkError.
    """
    found: dict[str, dict[str, float]] = {}
    for sink in build.sinks(config.sinks, run_id="plan"):
        known: dict[tuple[int, int] | None, float] = {}
        found[sink.name] = {}
        for name, capture in captures.items():
            kind = capture.picture.size if sink.wants_pictures else None
            if kind not in known and not stop.is_set():
                known[kind] = _cost_ms(sink, name, capture, detections, dict(labels), fps[name], stop)
            found[sink.name][name] = known.get(kind, 0.0)
    return found


def _cost_ms(
    sink: Sink, name: str, capture: Capture, detections: Detections, labels: dict[int, str], fps: float, stop: StopFlag
) -> float:
    picture = capture.picture
    sink.open()
    try:
        sink.begin(StreamInfo(name, picture.width, picture.height, fps, labels=labels))
        began_ns, before_ns, number = now_ns(), cpu_ns(), 0
        while number < MOST_RESULTS and now_ns() - began_ns < LONGEST_S * 1e9 and not stop.is_set():
            shown = picture if sink.wants_pictures else None
            pts_s = number / fps
            sink.write(
                Result(name, number, pts_s, wall_ns(), picture.width, picture.height, detections, labels, picture=shown)
            )
            number += 1
        sink.end(name)
        return (cpu_ns() - before_ns) / 1e6 / max(1, number)
    finally:
        sink.close()
