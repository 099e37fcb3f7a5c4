# SPDX-License-Identifier: Apache-2.0
"""From the time stamps of packets, in the order of a file, to the times of frames, in the order of showing."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from pipeline.sources.timeline import JUMP_S, Timeline

Moment = tuple[int, float]
"""Epoch, and seconds since the first frame."""

_REORDERED = 32
"""How many packets may stand between one and its place: twice what H.264 and HEVC allow."""
_SAME_S = 0.0015
"""Containers round to milliseconds."""


class Intervals(NamedTuple):
    """Mean, standard deviation and maximum between two frames of one epoch, in seconds; zeros where there is none."""

    mean_s: float
    spread_s: float
    longest_s: float


def presented(stamps: Sequence[int | None], time_base: Fraction, interval_s: float | None) -> list[Moment]:
    """The times at which packets with these pts are shown, or nothing where one has none."""
    timeline = Timeline(time_base, interval_s)
    times = []
    for pts in _in_order(stamps, int(JUMP_S / time_base)):
        if pts is None:
            return []
        place = timeline.place(pts, 0)
        times.append((timeline.epoch, place))
    return times


def same_beginning(frames: Sequence[Moment], packets: Sequence[Moment]) -> bool:
    """Whether the decoded frames are the first of the packets: each packet is one frame then, none is hidden, half or
    lost, and the times of the packets are the times of the frames."""
    return len(packets) >= len(frames) > 0 and all(
        epoch == other and abs(at - there) < _SAME_S
        for (epoch, at), (other, there) in zip(frames, packets, strict=False)
    )


def intervals(moments: Sequence[Moment]) -> Intervals:
    """How far apart the frames are; what lies between two epochs is not an interval."""
    gaps = [after - before for (epoch, before), (next_epoch, after) in pairwise(moments) if epoch == next_epoch]
    if not gaps:
        return Intervals(0.0, 0.0, 0.0)
    return Intervals(statistics.fmean(gaps), statistics.pstdev(gaps), max(gaps))


def _in_order(stamps: Sequence[int | None], jump: int) -> Iterator[int | None]:
    waiting: list[int] = []
    last: int | None = None
    for pts in stamps:
        if pts is None:
            yield None
            continue
        if last is not None and abs(pts - last) > jump:  # a break: what is left belongs before it
            while waiting:
                yield heapq.heappop(waiting)
        last = pts
        heapq.heappush(waiting, pts)
        if len(waiting) > _REORDERED:
            yield heapq.heappop(waiting)
    while waiting:
        yield heapq.heappop(waiting)
