# SPDX-License-Identifier: Apache-2.0
"""A frame inside the flow: on its way to the network, in a batch, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pipeline.frame.arrays import Uint8Array
from pipeline.frame.capture import Picture
from pipeline.frame.inputs import Geometry, InputSpec
from pipeline.frame.results import Detections

DropReason = Literal["stale", "overflow", "stage_error", "inference_error", "corrupt", "shutdown"]


class StreamKey(NamedTuple):
    """Identity of a stream's life: a stream that was removed and added again has a new generation."""

    name: str
    generation: int


@dataclass(slots=True, eq=False)
class Frame:
    """A frame inside the flow. It has one owner at a time and its trace travels with it.

    Attributes:
        stream: whose it is.
        sequence: position among the frames of this stream that entered the flow, from 0 without gaps. Each of them ends
            in exactly one outcome.
        index, pts_s, wall_ns, epoch: see :class:`Capture`.
        width, height: source pixels as displayed.
        picture: the decoded picture, or None once nobody needs it.
        trace: marks, see :mod:`pipeline.timing.trace`.
        labels: class names by class id of the model that it was prepared for.
        observer: is told once what that model found in it, before anybody follows it: detections in source pixels
            (None where nobody looked), or why it was dropped.
        place_ns: monotonic time at which it would have been prepared had it come as soon as frames of its stream can;
            what a playout delay counts from. None: nobody asks.
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
    place_ns: int | None = None

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
