# SPDX-License-Identifier: Apache-2.0
"""What was found in a frame, and what is published of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.frame.arrays import FloatArray, IntArray
from pipeline.frame.capture import Picture


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in one frame; n may be 0.

    Attributes:
        xyxy: (n, 4) float32, corners in pixels: of the source picture as displayed once published, of the network
            input as it leaves a detector.
        confidence: (n,) float32 in [0, 1].
        class_id: (n,) int64, as the model numbers its classes.
        track_id: (n,) int64, or None where nothing was tracked.
    """

    xyxy: FloatArray
    confidence: FloatArray
    class_id: IntArray
    track_id: IntArray | None = None

    def __post_init__(self) -> None:
        n = len(self.confidence)
        track = n if self.track_id is None else len(self.track_id)
        if self.xyxy.shape != (n, 4) or self.class_id.shape != (n,) or track != n:
            raise ValueError(
                f"detections disagree in length: xyxy {self.xyxy.shape}, confidence {self.confidence.shape}, "
                f"class_id {self.class_id.shape}, track_id {track}"
            )

    def __len__(self) -> int:
        return len(self.confidence)

    def __repr__(self) -> str:
        return f"Detections({len(self)})"

    @classmethod
    def empty(cls) -> Detections:
        """Nothing found."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Result:
    """A published record: what sinks receive and :func:`pipeline.replay` yields.

    Attributes:
        stream: name of the stream.
        frame: frames delivered by the decoder before this one (source index, from 0).
        pts: seconds since the stream's start.
        wall_ns: wall time of capture, nanoseconds since the epoch (UTC); None for recordings.
        width, height: source pixels as displayed.
        detections: boxes in source pixels.
        labels: class names by class_id.
        epoch: see :class:`Capture`.
        dropped_before: frames of this stream that were dropped since the previous record.
        picture: the decoded picture when a sink asked for pictures, else None.
        trace: marks up to FOLLOWED, or PLAYED where there is a playout delay; read-only.
    """

    stream: str
    frame: int
    pts: float
    wall_ns: int | None
    width: int
    height: int
    detections: Detections
    labels: dict[int, str]
    epoch: int = 0
    dropped_before: int = 0
    picture: Picture | None = None
    trace: list[int] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Result({self.stream}#{self.frame}, {len(self.detections)} detections)"
