# SPDX-License-Identifier: Apache-2.0
"""What a source delivers: pictures, when they were taken, and what it counts beside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipeline.frame.arrays import Uint8Array

Rotation = Literal[0, 90, 180, 270]
Matrix = Literal["bt601", "bt709"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture, as the decoder left it. Nothing is converted until somebody asks for it.

    Attributes:
        planes: ``yuv``: three uint8 planes (Y, U, V), each (rows, columns), chroma of any sub-sampling;
            ``rgb``: one uint8 plane (rows, columns, 3); ``gray``: one uint8 plane (rows, columns). Views, read-only by
            agreement: they keep the decoder's buffer alive.
        layout: which of the three it is.
        matrix: the YUV matrix, BT.601 or BT.709.
        full_range: luma 0..255 instead of 16..235.
        rotation: clockwise degrees by which the picture must be turned to be displayed upright.
    """

    planes: tuple[Uint8Array, ...]
    layout: Literal["yuv", "rgb", "gray"]
    matrix: Matrix = "bt601"
    full_range: bool = False
    rotation: Rotation = 0

    def __repr__(self) -> str:
        return f"Picture({self.width}x{self.height} {self.layout})"

    @property
    def width(self) -> int:
        """Columns as displayed, rotation applied."""
        rows, columns = self.planes[0].shape[:2]
        return int(rows if self.rotation in (90, 270) else columns)

    @property
    def height(self) -> int:
        """Rows as displayed, rotation applied."""
        rows, columns = self.planes[0].shape[:2]
        return int(columns if self.rotation in (90, 270) else rows)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as displayed."""
        rows, columns = self.planes[0].shape[:2]
        return (rows, columns) if self.rotation in (90, 270) else (columns, rows)


@dataclass(frozen=True, slots=True)
class Capture:
    """One frame as a source delivers it.

    Attributes:
        picture: the decoded picture.
        index: frames delivered by the decoder of this source, from 0; never resets, not even at a reconnect.
        pts_s: presentation time in seconds since the stream's first frame.
        read_ns: monotonic time at which the packet that completed this frame was read.
        decoded_ns: monotonic time at which its packet was decoded; the decoder may have kept it for some time after.
        wall_ns: wall time of capture for a live source, None for a recording.
        epoch: grows at each reconnect and at each break in the time stamps.
        corrupt: the decoder flagged it as damaged.
        missed: frames before it that were decoded and had to give way, since nobody took them in time.
        camera_ns: wall time at which the camera took it, by the camera's own clock; None where it does not tell.
    """

    picture: Picture
    index: int
    pts_s: float
    read_ns: int
    decoded_ns: int
    wall_ns: int | None = None
    epoch: int = 0
    corrupt: bool = False
    missed: int = 0
    camera_ns: int | None = None

    @property
    def age_ns(self) -> int:
        """How old it was when it was read, by the camera's clock and this machine's; 0 where that is not known."""
        return 0 if self.camera_ns is None or self.wall_ns is None else self.wall_ns - self.camera_ns


@dataclass(slots=True)
class SourceCounters:
    """What a source counts beside the frames that it delivers. Written by the reading thread only.

    Attributes:
        decode_errors: packets that raised in the decoder.
        skipped: frames that the decoder was told to skip.
        reconnects: connections after the first one.
        reconnects_by_cause: the same, by what ended the connection before (:class:`pipeline.errors.SourceError`).
        discontinuities: breaks in the time stamps.
        still_since_ns: when the first of the newest pictures that are all the same was read; 0 where nobody looks.
        duplicates: pictures that were the one before once more.
        decoder: what decodes, ``cpu`` or a kind of hardware such as ``cuda``; empty before the first frame.
    """

    decode_errors: int = 0
    skipped: int = 0
    discontinuities: int = 0
    still_since_ns: int = 0
    duplicates: int = 0
    reconnects: int = 0
    reconnects_by_cause: dict[str, int] = field(default_factory=dict)
    decoder: str = ""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is known of a stream when it opens.

    Attributes:
        name: fits ``[A-Za-z0-9_-]{1,64}``.
        width, height: pixels as displayed; 0 if not known yet.
        fps: declared frame rate, or None.
        frames, duration_s: declared length, or None (live feeds, containers that do not say).
        live: a feed without an end.
        labels: class names by class_id of the model in use.
    """

    name: str
    width: int = 0
    height: int = 0
    fps: float | None = None
    frames: int | None = None
    duration_s: float | None = None
    live: bool = False
    codec: str = ""
    labels: dict[int, str] = field(default_factory=dict)
