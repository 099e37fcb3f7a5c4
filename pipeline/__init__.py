# SPDX-License-Identifier: Apache-2.0
"""Multi-camera video analytics: many streams, one shared, dynamically batched TorchScript detector.

::

    import pipeline

    for r in pipeline.replay(["a.mp4", "b.mp4"], model="builtin:people"):
        print(r.stream, r.frame, r.pts, r.detections.xyxy, r.detections.confidence)

Names are loaded when they are first used: importing the package alone imports neither torch nor OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import Config, load_config
    from pipeline.errors import (
        ConfigError,
        ModelLoadError,
        PipelineError,
        SinkError,
        SourceError,
        UsageError,
    )
    from pipeline.events import StreamEvent
    from pipeline.flow import Pipeline
    from pipeline.flow.stream import FlowOptions, Stream
    from pipeline.frame import Detections, Picture, Result, StreamInfo
    from pipeline.protocols import Detector, EventSink, Follower, Pending, Sink, Source, Stage
    from pipeline.replaying import Replay, ReplayOptions, replay

_HOMES = {
    "Config": "config",
    "ConfigError": "errors",
    "Detections": "frame",
    "Detector": "protocols",
    "EventSink": "protocols",
    "FlowOptions": "flow.stream",
    "Follower": "protocols",
    "ModelLoadError": "errors",
    "Pending": "protocols",
    "Picture": "frame",
    "Pipeline": "flow",
    "PipelineError": "errors",
    "Replay": "replaying",
    "ReplayOptions": "replaying",
    "Result": "frame",
    "Sink": "protocols",
    "SinkError": "errors",
    "Source": "protocols",
    "SourceError": "errors",
    "Stage": "protocols",
    "Stream": "flow.stream",
    "StreamEvent": "events",
    "StreamInfo": "frame",
    "UsageError": "errors",
    "load_config": "config",
    "replay": "replaying",
}

__all__ = [
    "Config",
    "ConfigError",
    "Detections",
    "Detector",
    "EventSink",
    "FlowOptions",
    "Follower",
    "ModelLoadError",
    "Pending",
    "Picture",
    "Pipeline",
    "PipelineError",
    "Replay",
    "ReplayOptions",
    "Result",
    "Sink",
    "SinkError",
    "Source",
    "SourceError",
    "Stage",
    "Stream",
    "StreamEvent",
    "StreamInfo",
    "UsageError",
    "load_config",
    "replay",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"pipeline.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
