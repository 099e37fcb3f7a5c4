# SPDX-License-Identifier: Apache-2.0
"""When a batch is sealed, and of what: the rules by which what waits in lanes becomes batches.

**When a batch is sealed.** As soon as it can be full. With ``fixed`` (recordings) otherwise only when nothing more
will come, and then padded: the network sees one batch size from the first frame to the last, so results do not depend
on how threads were scheduled. Without ``fixed`` (feeds) also when every stream that is delivering is present, or at the
earliest deadline of those that wait: when the oldest item has waited for the least of ``max_wait_ns``, a quarter of the
shortest measured frame interval, and what joining a batch saves by the measured times of batches
(:mod:`service`), or when a frame can only just be done within its stream's latency budget. While a second
worker is free nothing is waited for: who comes next is served at once. A partial batch runs as a partial batch.

**Who is in it.** Weighted fair shares, see :class:`lanes.FairShare`. Frames that can no longer be done within their
stream's bound of staleness, by the time that batches took lately, are taken out before: they are shed, and counted.
Where that leaves nothing to measure it by, the time is forgotten after :data:`NEWS_NS`, and a batch tells anew.

A batch holds one input spec. With ``fixed``, the spec that fills a batch goes first, but the oldest item is passed over
``PATIENCE`` times at most: then it goes in a padded batch.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from pipeline.flow.lanes import FairShare, Lane, Terms
from pipeline.flow.service import ServiceTimes
from pipeline.frame import Batch, InputSpec, Item, StreamKey

PATIENCE: Final = 16
"""How often the oldest item gives way to full batches of another spec: padding then costs at most 1/16 of the work."""

NEWS_NS: Final = 1_000_000_000
"""So long what the last batches took says how long the next will take. One hiccup that is longer than a bound of
staleness would otherwise be the end of all frames: they are shed, so no batch ever shows that it is over."""


class Waiting:
    """What waits, lane by lane, and the batches that it becomes. Used inside the scheduler's lock; waits for nothing.

    Args:
        max_size: items per batch at most.
        fixed: one batch size from the first frame to the last.
        max_wait_ns: upper bound of the wait for a fuller batch.
        lane_capacity: frames that a lane holds.

    Attributes:
        open: the lanes of streams that are read.
        known: these, and those that are closed and still hold something.
        items: how many wait, in all lanes.
        service: how long batches take.
    """

    def __init__(self, max_size: int, *, fixed: bool, max_wait_ns: int, lane_capacity: int) -> None:
        if max_size < 1 or lane_capacity < 1:
            raise ValueError(f"a batch and a lane hold at least one item, not {max_size} and {lane_capacity}")
        self.max_size = max_size
        self.fixed = fixed
        self.open: dict[StreamKey, Lane] = {}
        self.known: dict[StreamKey, Lane] = {}
        self.items = 0
        self.service = ServiceTimes()
        self._max_wait_ns = max_wait_ns
        self._lane_capacity = lane_capacity
        self._weights = 0  # of the open lanes together
        self._share = FairShare()
        self._shed: list[Item] = []
        self._of_spec: Counter[InputSpec] = Counter()  # how many wait, by spec
        self._passed_over = 0  # full batches of other specs since the oldest item's turn
        self._number = 0
        self._measured_ns = 0  # when a batch was last done

    def open_lane(self, key: StreamKey, terms: Terms, space: threading.Condition) -> None:
        """``space``: where a producer waits for room; raises ValueError where the lane is open or has no weight."""
        if terms.weight < 1:
            raise ValueError(f"the weight of {key.name} must be at least 1, not {terms.weight}")
        if key in self.known:
            raise ValueError(f"the lane of {key.name} is open already")
        self._weights += terms.weight
        self.open[key] = self.known[key] = Lane(key, terms, space)

    def close_lane(self, key: StreamKey) -> None:
        """No more items of this stream will come."""
        lane = self.open.pop(key, None)
        if lane is not None:
            self._weights -= lane.terms.weight
            self._forget_if_done(lane)

    def served(self, now_ns: int, items: int, duration_ns: int, waited_ns: int) -> None:
        """A batch is done, see :meth:`ServiceTimes.add`."""
        self._measured_ns = now_ns
        self.service.add(items, duration_ns, waited_ns)

    def has_space(self, lane: Lane, spec: InputSpec) -> bool:
        """Whether a lane of ``every_frame`` takes an item now."""
        held = len(lane.items)
        return held < self._lane_capacity or (held < self.max_size and self._of_spec[spec] < self.max_size)

    def room(self, lane: Lane) -> int:
        """Frames that a lane of ``freshest`` holds: more where its share is larger than the usual one.

        Waiting takes as long in every lane then, and a lane can give its share without running dry.
        """
        usual = self._weights / len(self.open)
        return max(self._lane_capacity, math.ceil(self._lane_capacity * lane.terms.weight / usual))

    def add(self, lane: Lane, items: Sequence[Item]) -> None:
        """The items of one frame."""
        if not lane.items:
            self._share.holds_again(lane)
        lane.items.extend(items)
        self.items += len(items)
        self._of_spec.update(item.spec for item in items)

    def push_out(self, lane: Lane) -> list[Item]:
        """Take the oldest frame out of a lane; it will not be served."""
        return self._taken(lane.pop_frame())

    def clear(self) -> list[Item]:
        """Take everything out."""
        left = [item for lane in self.known.values() for item in lane.items]
        for lane in self.known.values():
            lane.items.clear()
        self.items = 0
        self._of_spec.clear()
        return left

    def take_shed(self) -> list[Item]:
        """What was found to be too old since the last call."""
        shed, self._shed = self._shed, []
        return shed

    def seal(
        self, now_ns: int, free: Sequence[int], *, partial: bool, finished: bool
    ) -> tuple[Batch | None, int | None]:
        """A batch, or how many nanoseconds to wait for one (None: until something happens).

        Args:
            now_ns: monotonic time.
            free: since when workers have waited for a batch.
            partial: a batch need not be full.
            finished: no lane will be opened any more.
        """
        self._shed_stale(now_ns)
        if not self.items:
            return None, None
        holding = [lane for lane in self.known.values() if lane.items]
        wait_ns = 0 if self.fixed else self._wait_limit_ns(now_ns, free)
        first = min(holding, key=lambda lane: self._deadline_ns(lane, wait_ns))
        partial = partial or (finished and not self.open)
        if self.items < self.max_size and not partial:
            if self.fixed:
                return None, None
            if not self._all_present(now_ns):
                left_ns = self._deadline_ns(first, wait_ns) - now_ns
                if left_ns > 0:
                    return None, left_ns
        wanted = first.items[0].spec
        spec = self._choose(wanted, holding, partial) if self.fixed else wanted
        return (None if spec is None else self._collect(spec, now_ns, free)), None

    def _deadline_ns(self, lane: Lane, wait_ns: int) -> int:
        """When its oldest item has to be sent off, full batch or not."""
        return min(lane.items[0].queued_ns + wait_ns, lane.due_ns(self.service.usual_ns))

    def _wait_limit_ns(self, now_ns: int, free: Sequence[int]) -> int:
        """How long the oldest item waits for others."""
        if len(free) > 1:  # whoever comes next need not wait for this batch: another worker is free
            return 0
        intervals = [lane.interval_ns for lane in self.open.values() if lane.is_delivering(now_ns)]
        return round(min(self._max_wait_ns, min(intervals) / 4, self.service.saved_ns)) if intervals else 0

    def _all_present(self, now_ns: int) -> bool:
        return all(lane.items for lane in self.open.values() if lane.is_delivering(now_ns))

    def _choose(self, oldest: InputSpec, holding: Sequence[Lane], partial: bool) -> InputSpec | None:
        """The spec of the next fixed batch; None while none fills a batch and a partial one need not go."""
        ready: Counter[InputSpec] = Counter()
        for lane in holding:
            head = lane.items[0].spec
            ready[head] += sum(1 for _ in takewhile(lambda item, head=head: item.spec == head, lane.items))  # type: ignore[misc]
        full = [spec for spec, count in ready.items() if count >= self.max_size]
        must_go = partial or (self._passed_over >= PATIENCE if full else self._is_jammed())
        if oldest in full or must_go:
            self._passed_over = 0
            return oldest
        self._passed_over += len(full[:1])
        return full[0] if full else None

    def _is_jammed(self) -> bool:
        """All producers wait for room: then the blocked lanes together hold no full batch of one spec."""
        return bool(self.open) and all(lane.blocked is not None for lane in self.open.values())

    def _collect(self, spec: InputSpec, now_ns: int, free: Sequence[int]) -> Batch:
        """A batch of the items whose turn it is."""
        lanes = list(self.known.values())
        chosen = self._taken(self._share.take(lanes, spec, self.max_size, now_ns, whole=self.fixed))
        for lane in lanes:
            self._forget_if_done(lane)
        self._number += 1
        size = self.max_size if self.fixed else len(chosen)
        return Batch(tuple(chosen), size, self._number, min(free, default=now_ns), now_ns)

    def _shed_stale(self, now_ns: int) -> None:
        bounded = [lane for lane in self.known.values() if lane.terms.staleness_ns is not None]
        if bounded and now_ns - self._measured_ns > NEWS_NS:
            self.service.forget_usual()
        for lane in bounded:
            self._shed += self._taken(lane.pop_stale(now_ns, self.service.usual_ns))
            self._forget_if_done(lane)

    def _taken(self, items: list[Item]) -> list[Item]:
        self.items -= len(items)
        self._of_spec.subtract(item.spec for item in items)
        return items

    def _forget_if_done(self, lane: Lane) -> None:
        if not lane.items and lane.key not in self.open:
            self.known.pop(lane.key, None)
