# SPDX-License-Identifier: Apache-2.0
"""The nouns that travel: what a source captures, what the detector is given, and what is found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Uint8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

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


class StreamKey(NamedTuple):
    """Identity of a stream's life: a stream that was removed and added again has a new generation."""

    name: str
    generation: int


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a detector wants to be given: uint8 HWC pictures of one size.

    Attributes:
        height, width: network input in pixels.
        colour: channel order.
        fit: how a picture gets into it: ``letterbox`` keeps the aspect ratio and centres, ``top_left`` keeps it and
            pads right and below, ``stretch`` does not keep it.
        pad_value: grey level of the padding, 0..255.
        trim: padding may be left off as long as both sides stay multiples of this many pixels (:meth:`trimmed`);
            0: the network takes this size only.
    """

    height: int
    width: int
    colour: Literal["rgb", "bgr"] = "rgb"
    fit: Literal["letterbox", "top_left", "stretch"] = "letterbox"
    pad_value: int = 114
    trim: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of one input picture."""
        return (self.height, self.width, 3)

    def trimmed(self, width: int, height: int) -> InputSpec:
        """The smallest input that shows a picture of ``width`` x ``height`` pixels at the same scale as this one.

        A 16:9 picture fills 198 of the 352 rows of a square input: with ``trim`` 32 it gets 224 rows.
        """
        if not self.trim or self.fit == "stretch":
            return replace(self, trim=0) if self.trim else self
        ratio = min(self.height / height, self.width / width)
        # Up to whole pixels first: an input smaller than the scaled picture would show it at a smaller scale.
        rows, columns = (math.ceil(side * ratio - 1e-6) for side in (height, width))
        rows, columns = (-(-side // self.trim) * self.trim for side in (rows, columns))
        return replace(self, height=min(rows, self.height), width=min(columns, self.width), trim=0)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How source pixels map to network pixels: ``network = (source - offset) * scale + pad``, per axis.

    Attributes:
        source_width, source_height: the picture as displayed, in pixels; boxes are clipped to it.
        scale_x, scale_y: network pixels per source pixel.
        pad_x, pad_y: network pixels left of and above the picture.
        offset_x, offset_y: source pixels left of and above the region that the network sees.
    """

    source_width: int
    source_height: int
    scale_x: float
    scale_y: float
    pad_x: float = 0.0
    pad_y: float = 0.0
    offset_x: float = 0.0
    offset_y: float = 0.0

    def to_source(self, xyxy: FloatArray) -> FloatArray:
        """Boxes (n, 4) from network pixels to source pixels, float32, clipped to the picture."""
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float64)
        pad = np.array([self.pad_x, self.pad_y] * 2, np.float64)
        offset = np.array([self.offset_x, self.offset_y] * 2, np.float64)
        limit = np.array([self.source_width, self.source_height] * 2, np.float64)
        boxes = (xyxy.astype(np.float64) - pad) / scale + offset
        return np.clip(boxes, 0.0, limit).astype(np.float32)


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


DropReason = Literal["stale", "overflow", "stage_error", "inference_error", "corrupt", "shutdown"]


@dataclass(slots=True, eq=False)
class Frame:
    """A frame inside the flow. It has one owner at a time and its trace travels with it.

    Attributes:
        stream: whose it is.
        sequence: position among the frames of this stream that entered the flow, from 0 without gaps. Each of them ends
            in exactly one outcome.
        index, pts_s, wall_ns, epoch: see :class:`Capture`.
        width, height: source pixels as displayed.
        picture: the decoded picture, or None once nobody needs it any more.
        trace: marks, see :mod:`pipeline.timing.trace`.
        labels: class names by class id of the model that it was prepared for.
        observer: is told once what that model found in it, before anybody follows it: detections in source pixels
            (None where nobody looked), or why it was dropped.
    """

    stream: StreamKey
    sequence: int
    index: int
    pts_s: float
    wall_ns: int | None
    epoch: int
    width: int
    height: int
    picture: Picture | None
    trace: list[int]
    labels: dict[int, str] = field(default_factory=dict)
    observer: Callable[[Detections | None, DropReason | None], None] | None = None

    def __repr__(self) -> str:
        return f"Frame({self.stream.name}#{self.index})"


@dataclass(slots=True, eq=False)
class Item:
    """One network input: a whole frame, or one of several parts of it (tiles, regions).

    Attributes:
        frame: where it comes from.
        part, of: it is part ``part`` of ``of``.
        spec: the input specification that ``input`` was made for. A batch holds one spec only.
        input, geometry: uint8 (height, width, 3), a pooled buffer, and how to get from it back to the frame.
        queued_ns: monotonic time at which its lane took it.
        made_ns: from when to when whoever took it made them; 0 where its reader did.
        make: makes them, as long as they are not there, and may raise anything.
    """

    frame: Frame
    spec: InputSpec
    input: Uint8Array
    geometry: Geometry
    part: int = 0
    of: int = 1
    queued_ns: int = 0
    made_ns: tuple[int, int] = (0, 0)
    make: Callable[[Item], None] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Items of one spec that go through the network together.

    Attributes:
        items: 1 to ``size`` of them.
        size: how many pictures the network is to see; the detector pads when there are fewer items.
        number: running number within the run.
        collected_ns, sealed_ns: monotonic times from which a worker was free to take it, and when it was complete.
    """

    items: tuple[Item, ...]
    size: int
    number: int
    collected_ns: int = 0
    sealed_ns: int = 0

    @property
    def spec(self) -> InputSpec:
        """The spec that all items share."""
        return self.items[0].spec


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one part of a frame. Each part of each frame has exactly one.

    Attributes:
        frame: whose outcome.
        detections: in source pixels; None without a look at this frame (gated, interval) or when dropped.
        dropped: why the frame is lost, or None; ``why``: what was said of that, for people.
        part, of: which part.
        marks: from QUEUED to PARSED, or to where the part was lost; the frame takes those of its last part.
    """

    frame: Frame
    detections: Detections | None = None
    dropped: DropReason | None = None
    part: int = 0
    of: int = 1
    marks: tuple[int, ...] = ()
    why: str = ""


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
        trace: marks up to FOLLOWED; read-only.
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
