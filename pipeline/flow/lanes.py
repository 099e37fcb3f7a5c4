# SPDX-License-Identifier: Apache-2.0
"""One stream's waiting frames, and what that stream is promised when the detector cannot serve all."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pipeline.frame import InputSpec, Item, StreamKey
from pipeline.threads import Policy
from pipeline.timing import Mark

NEVER: Final = 1 << 62
"""A deadline that nobody has."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a stream is served.

    Attributes:
        weight: its share of a contended detector, >= 1.
        policy: what a full lane does: hold the producer up, or lose its oldest frame.
        budget_ns: how long after its packet was read a frame should be done: it waits for others only as far as this
            allows. None: there is no such wish.
        staleness_ns: how long after its packet was read a frame must be done to be worth serving. None: it always is.
    """

    weight: int = 1
    policy: Policy = "every_frame"
    budget_ns: int | None = None
    staleness_ns: int | None = None


EVERY_FRAME: Final = Terms()


@dataclass(slots=True)
class Lane:
    """The items of one stream that wait. Inside the scheduler's lock.

    Attributes:
        start: virtual time at which the oldest item may be served, see :class:`FairShare`.
        lost: a frame was lost since one was last taken.
        is_owed: frames were lost before the last one was taken: this stream could use more than it gets.
        blocked: what its producer waits to put in.
        last_ns, interval_ns: when the last frame came, and the smoothed interval between them; 0 until two have come.
    """

    key: StreamKey
    terms: Terms
    space: threading.Condition
    items: deque[Item] = field(default_factory=deque)
    start: float = 0.0
    lost: bool = False
    is_owed: bool = False
    blocked: InputSpec | None = None
    last_ns: int = 0
    interval_ns: float = 0.0

    def delivered(self, now_ns: int) -> None:
        """A frame came."""
        if self.last_ns:
            gap = now_ns - self.last_ns
            self.interval_ns = gap if not self.interval_ns else self.interval_ns + (gap - self.interval_ns) / 8
        self.last_ns = now_ns

    def is_delivering(self, now_ns: int) -> bool:
        """It delivered within two of its own intervals."""
        return bool(self.interval_ns) and now_ns - self.last_ns <= 2 * self.interval_ns

    @property
    def loses(self) -> bool:
        """Frames of it have been lost lately: it is given more than can be served. Never of ``every_frame``."""
        return self.terms.policy != "every_frame" and (self.lost or self.is_owed)

    def due_ns(self, service_ns: float) -> int:
        """When the oldest item has to be sent off to be done within the budget, by the time that a batch takes."""
        if self.terms.budget_ns is None:
            return NEVER
        return self.items[0].frame.trace[Mark.READ] + self.terms.budget_ns - int(service_ns)

    def pop_frame(self) -> list[Item]:
        """All items of the oldest frame; they will not be served."""
        frame = self.items[0].frame
        popped = []
        while self.items and self.items[0].frame is frame:
            popped.append(self.items.popleft())
        self.lost = True
        return popped

    def pop_stale(self, now_ns: int, service_ns: float) -> list[Item]:
        """Items of the frames that could no longer be done in time, even if they were sent off now."""
        stale: list[Item] = []
        if self.terms.staleness_ns is not None:
            earliest_ns = now_ns + int(service_ns) - self.terms.staleness_ns
            while self.items and self.items[0].frame.trace[Mark.READ] < earliest_ns:
                stale += self.pop_frame()
        return stale


class FairShare:
    """Who is served next: start-time fair queueing (P. Goyal, H. Vin, H. Cheng, 1996).

    Serving an item of a lane moves the lane's start on by 1 / weight; the lane with the least start is next, and of
    several the one whose item came first. A lane that had nothing to give begins where the others are: what it did not
    use is gone. So each lane that always holds something gets its share, to within one item, and while the oldest item
    of lane i waits, at most ``ceil(w_j / w_i) + 1`` items of each other lane j are served.

    Lanes are short, so that frames stay fresh, and one with a large share may run dry in the middle of a batch while it
    loses frames. Then the batch ends before the others get more than theirs.
    """

    def __init__(self) -> None:
        self._virtual = 0.0  # the start of the latest item that was served

    def holds_again(self, lane: Lane) -> None:
        """A lane that was empty gets an item."""
        lane.start = max(lane.start, self._virtual)

    def take(self, lanes: Iterable[Lane], spec: InputSpec, most: int, now_ns: int, *, whole: bool) -> list[Item]:
        """Up to ``most`` items of ``spec`` in the order of their starts, at least one where there is one.

        ``whole``: fill the batch, whatever is owed to a lane that ran dry.
        """
        heads = []
        owed = float("inf")  # the least start of the lanes that ran dry and could use more
        for number, lane in enumerate(lanes):
            if lane.items and lane.items[0].spec == spec:
                heads.append((lane.start, lane.items[0].queued_ns, number, lane))
            elif not lane.items and lane.is_owed and lane.is_delivering(now_ns):
                owed = min(owed, lane.start)
        heapq.heapify(heads)
        chosen: list[Item] = []
        served: set[int] = set()
        while heads and len(chosen) < most:
            start, _, number, lane = heads[0]
            if chosen and start > owed and not whole:
                break
            chosen.append(lane.items.popleft())
            if number not in served:
                served.add(number)
                lane.is_owed, lane.lost = lane.lost, False
            self._virtual = max(self._virtual, start)
            lane.start = start + 1 / lane.terms.weight
            if lane.items and lane.items[0].spec == spec:
                heapq.heapreplace(heads, (lane.start, lane.items[0].queued_ns, number, lane))
                continue
            heapq.heappop(heads)
            if not lane.items and lane.is_owed:
                owed = min(owed, lane.start)
        return chosen
