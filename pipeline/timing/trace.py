# SPDX-License-Identifier: Apache-2.0
"""The journey of one frame as marks in time, and how the intervals between marks become stages and waits.

A trace is a flat list of integers: monotonic nanoseconds in one slot per :class:`Mark`, 0 where the frame did not pass,
and behind them what the source knew of its capture (:data:`PTS`, :data:`EPOCH`, :data:`FRAME`, :data:`AGE`). It travels
with the frame and has one owner at a time. The interval that *ends* at a mark belongs to that mark's stage, so the
stages of a frame sum exactly, in integer nanoseconds, to its end-to-end time, whichever marks it passed. A frame that
is dropped has no mark beyond the place where it was lost, and the same holds up to there.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Mark(IntEnum):
    """Points on the way of a frame, in the order in which they are passed."""

    READ = 0  # the packet that completed this frame was read
    DECODED = 1  # its packet was decoded; the decoder may keep it a while longer
    PREPARE = 2  # a stage began to prepare it
    PREPARED = 3  # ready to be queued for the detector
    QUEUED = 4  # its lane had room for it
    COLLECT = 5  # a worker was free to take it: what it waits for from now on is company
    SEALED = 6  # its batch was complete
    MAKE = 7  # its worker began to prepare it, which its reader had left to whoever takes it
    MADE = 8  # and was done
    INFER = 9  # the network began with its batch
    INFERRED = 10  # the network's outputs are there
    PARSED = 11  # detections are there, in source pixels
    FOLLOW = 12  # its turn in stream order has come
    FOLLOWED = 13  # its follower is done; published: the record enters the outlets of the sinks
    PLAYED = 14  # published, where the stream has a playout delay; else not passed
    SINK = 15  # the sink that finished last began to write it
    DONE = 16  # that sink finished


STAGES: Final = ("decode", "preprocess", "queue", "infer", "postprocess", "follow", "sink")
"""The stage names of the contract. ``queue`` is every wait between two stages."""

WAITS: Final = ("decoder", "scheduler", "batch", "reorder", "playout", "outlet")
"""The places of which ``queue`` is the sum: in the decoder until its turn to be shown, in its lane until a worker is
free, for the others of its batch (to come, to be prepared), for the frames before it, for its time to be published,
for a sink."""

PARTS: Final[tuple[str, ...]] = (
    "",  # READ starts the journey
    "decode",
    "decoder",
    "preprocess",
    "scheduler",
    "scheduler",
    "batch",
    "batch",
    "preprocess",
    "batch",
    "infer",
    "postprocess",
    "reorder",
    "follow",
    "playout",
    "outlet",
    "sink",
)
"""By mark: the stage or the place of waiting whose interval ends there."""

_STAGE_ENDING_AT: Final = tuple("queue" if part in WAITS else part for part in PARTS)
_MARKS: Final = len(Mark)
PTS: Final = _MARKS
"""Slot behind the marks: presentation time in nanoseconds since the stream's first frame."""
EPOCH: Final = _MARKS + 1
"""Slot behind the marks: grows at each break in the time stamps; times of capture compare within one epoch only."""
FRAME: Final = _MARKS + 2
"""Slot behind the marks: the frame's number among those that the decoder delivered."""
AGE: Final = _MARKS + 3
"""Slot behind the marks: how old the frame was when it was read, nanoseconds, by the camera's clock and this machine's;
0 where the camera does not tell, negative where its clock is ahead."""
SLOTS: Final = _MARKS + 4
MOST_AGE_NS: Final = 10_000_000_000
"""No frame is so old when it comes: then the two clocks are not set alike."""


def new_trace() -> list[int]:
    """An empty trace: one slot per mark and fact, all 0."""
    return [0] * SLOTS


def stage_times(trace: list[int], last: Mark = Mark.DONE) -> dict[str, int]:
    """Nanoseconds per stage of the marks passed up to and including ``last``.

    A mark that was not passed (0) hands its interval to the next mark that was. The values sum exactly to
    :func:`elapsed` of the same arguments. Stages without a passed mark are absent.
    """
    return _times(trace, last, _STAGE_ENDING_AT)


def part_times(trace: list[int], last: Mark = Mark.DONE) -> dict[str, int]:
    """The same in finer parts: instead of ``queue`` each of :data:`WAITS`."""
    return _times(trace, last, PARTS)


def _times(trace: list[int], last: Mark, names: tuple[str, ...]) -> dict[str, int]:
    times: dict[str, int] = {}
    before = trace[Mark.READ]
    for mark in range(1, last + 1):
        at = trace[mark]
        if at:
            name = names[mark]
            times[name] = times.get(name, 0) + at - before
            before = at
    return times


def elapsed(trace: list[int], last: Mark = Mark.DONE) -> int:
    """Nanoseconds from the first mark to the last passed mark that is not later than ``last``."""
    end = max(trace[Mark.READ : last + 1])
    return end - trace[Mark.READ]


def published_ns(trace: list[int]) -> int:
    """When it was published; 0 where it was not."""
    return trace[Mark.PLAYED] or trace[Mark.FOLLOWED]


def ended_in(trace: list[int]) -> str:
    """The stage or place of waiting in which the journey ended so far: where a dropped frame was lost."""
    return next((PARTS[mark] for mark in range(_MARKS - 1, 0, -1) if trace[mark]), "decode")
