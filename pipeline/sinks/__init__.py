# SPDX-License-Identifier: Apache-2.0
"""Where results go: one file per format. Each class is a :class:`pipeline.protocols.Sink`.

``VideoSink`` and ``draw_detections`` load PyAV and OpenCV, so they are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.sinks.callback import CallbackSink
from pipeline.sinks.coco import CocoSink
from pipeline.sinks.csv_file import CsvSink
from pipeline.sinks.jsonl import JsonlSink
from pipeline.sinks.mot import MotSink
from pipeline.sinks.record_file import Rotate

if TYPE_CHECKING:
    from pipeline.sinks.drawing import draw_detections
    from pipeline.sinks.video import VideoSink

__all__ = ["CallbackSink", "CocoSink", "CsvSink", "JsonlSink", "MotSink", "Rotate", "VideoSink", "draw_detections"]


def __getattr__(name: str) -> Any:
    if name == "VideoSink":
        from pipeline.sinks.video import VideoSink

        return VideoSink
    if name == "draw_detections":
        from pipeline.sinks.drawing import draw_detections

        return draw_detections
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
