# SPDX-License-Identifier: Apache-2.0
"""The journey of one frame as marks in time, and how the intervals between marks become stages.

A trace is a flat list of monotonic nanoseconds, one slot per :class:`Mark`, 0 where the frame did not pass. It travels
with the frame and has one owner at a time. The interval that *ends* at a mark belongs to that mark's stage, so the
stages of a frame sum exactly, in integer nanoseconds, to its end-to-end time, whichever marks it passed.
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
    INFER = 4  # its batch was handed to the network
    INFERRED = 5  # the network's outputs are there
    PARSED = 6  # detections are there, in source pixels
    FOLLOW = 7  # its turn in stream order has come
    FOLLOWED = 8  # published: the record enters the outlets of the sinks
    SINK = 9  # the sink that finished last began to write it
    DONE = 10  # that sink finished


STAGES: Final = ("decode", "preprocess", "queue", "infer", "postprocess", "follow", "sink")
"""The stage names of the contract. ``queue`` is every wait between two stages."""

STAGE_ENDING_AT: Final[tuple[str, ...]] = (
    "",  # READ starts the journey
    "decode",
    "queue",
    "preprocess",
    "queue",
    "infer",
    "postprocess",
    "queue",
    "follow",
    "queue",
    "sink",
)

_MARKS: Final = len(Mark)


def new_trace() -> list[int]:
    """An empty trace: one slot per mark, all 0."""
    return [0] * _MARKS


def stage_times(trace: list[int], last: Mark = Mark.DONE) -> dict[str, int]:
    """Nanoseconds per stage of the marks passed up to and including ``last``.

    A mark that was not passed (0) hands its interval to the next mark that was. The values sum exactly to
    :func:`elapsed` of the same arguments. Stages without a passed mark are absent.
    """
    times: dict[str, int] = {}
    before = trace[Mark.READ]
    for mark in range(1, last + 1):
        at = trace[mark]
        if at:
            stage = STAGE_ENDING_AT[mark]
            times[stage] = times.get(stage, 0) + at - before
            before = at
    return times


def elapsed(trace: list[int], last: Mark = Mark.DONE) -> int:
    """Nanoseconds from the first mark to the last passed mark that is not later than ``last``."""
    end = max(trace[Mark.READ : last + 1])
    return end - trace[Mark.READ]
