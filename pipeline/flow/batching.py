# SPDX-License-Identifier: Apache-2.0
"""The meeting point of many streams and few detect workers: fair batches out of one bounded lane per stream.

**When a batch is sealed.** As soon as it can be full. With ``fixed`` (recordings) otherwise only when nothing more
will come, and then padded: the network sees one batch size from the first frame to the last, so results do not depend
on how threads were scheduled. Without ``fixed`` (feeds) also when every stream that is delivering is present, or at the
earliest deadline of those that wait: when the oldest item has waited for the least of ``max_wait_ns``, a quarter of the
shortest measured frame interval, and what joining a batch saves by the measured times of batches
(:mod:`service`), or when a frame can only just be done within its stream's latency budget. While a second
worker is free nothing is waited for: who comes next is served at once. A partial batch runs as a partial batch.

**Who is in it.** Weighted fair shares, see :class:`lanes.FairShare`. Frames that can no longer be done within their
stream's bound of staleness are taken out before: they are shed, and counted.

A batch holds one input spec. With ``fixed``, the spec that fills a batch goes first, but the oldest item is passed over
``PATIENCE`` times at most: then it goes in a padded batch.

**What happens when a lane is full.** ``every_frame`` blocks its producer; ``freshest`` pushes its oldest frame out and
hands it back to the producer, who accounts for it; where frames cost nothing yet (``fresh``) it holds half as many, so
that they are younger. Blocking cannot deadlock: a lane takes an item as long as all lanes
together hold less than one batch of its spec.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import takewhile

from pipeline.flow.lanes import EVERY_FRAME, FairShare, Lane, Terms
from pipeline.flow.service import ServiceTimes
from pipeline.frame import Batch, InputSpec, Item, StreamKey
from pipeline.threads import Closed
from pipeline.timing import SYSTEM, Clock

PATIENCE = 16
"""How often the oldest item gives way to full batches of another spec: padding then costs at most 1/16 of the work."""


class BatchScheduler:
    """Collects items of many lanes into batches. Thread-safe; any number of producers and workers."""

    def __init__(
        self,
        max_size: int,
        *,
        fixed: bool = False,
        max_wait_ns: int = 10_000_000,
        lane_capacity: int = 2,
        clock: Clock = SYSTEM,
        shed: Callable[[Item], object] = lambda item: None,
    ) -> None:
        """``shed`` is given the items that have become too old to be served, by the thread that finds them.

        A lane's capacity is in frames.
        """
        if max_size < 1 or lane_capacity < 1:
            raise ValueError(f"a batch and a lane hold at least one item, not {max_size} and {lane_capacity}")
        self.max_size = max_size
        self.fixed = fixed
        self.max_wait_ns = max_wait_ns
        self.lane_capacity = lane_capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._lanes: dict[StreamKey, Lane] = {}  # that are open
        self._known: dict[StreamKey, Lane] = {}  # and those that are closed and still hold something
        self._weights = 0  # of the open lanes together
        self._share = FairShare()
        self._account_for_shed = shed
        self._shed: list[Item] = []
        self._waiting = 0  # items in all lanes
        self._of_spec: Counter[InputSpec] = Counter()  # the same, by spec
        self._passed_over = 0  # full batches of other specs since the oldest item's turn
        self._number = 0
        self._free: list[int] = []  # since when workers have waited for a batch
        self._service = ServiceTimes()
        self._finished = False
        self._aborted = False

    # Producers

    def open(self, key: StreamKey, terms: Terms = EVERY_FRAME) -> None:
        """Open a lane."""
        if terms.weight < 1:
            raise ValueError(f"the weight of {key.name} must be at least 1, not {terms.weight}")
        with self._lock:
            if key in self._known:
                raise ValueError(f"the lane of {key.name} is open already")
            self._weights += terms.weight
            self._lanes[key] = self._known[key] = Lane(key, terms, threading.Condition(self._lock))

    def loses(self, key: StreamKey) -> bool:
        """Whether frames of this stream have been lost lately, so that the next one may well be lost as well."""
        with self._lock:
            return self._lanes[key].loses

    def turns_away(self, key: StreamKey, parts: int = 1) -> bool:
        """Whether a frame of ``parts`` items is lost before it was prepared, for its reader is behind.

        Where its lane is full there is something to be served, and to catch up comes first; half full will do where
        frames have been lost lately, so that what waits is younger. Never of ``every_frame``.
        """
        with self._lock:
            lane = self._lanes[key]
            room = self._room(lane)
            enough = max(1, room // 2) if lane.is_owed or lane.lost else room
            if lane.terms.policy == "every_frame" or len(lane.items) < enough * parts:
                return False
            lane.delivered(self._clock.now_ns())
            lane.lost = True
            return True

    def offer(self, key: StreamKey, items: Sequence[Item], *, fresh: bool = False) -> list[Item]:
        """Queue the items of one frame; blocks while an ``every_frame`` lane is full.

        ``fresh``: what waits is to be younger than usual; a lane of ``freshest`` then holds half as much. For frames
        that have cost nothing yet but their decoding.

        Returns the items that ``freshest`` pushed out (whole frames, oldest first). Raises Closed once aborted; the
        offered items then remain the caller's.
        """
        with self._lock:
            lane = self._lanes[key]
            pushed_out: list[Item] = []
            if lane.terms.policy == "every_frame":
                while not self._has_space(lane, items[0].spec) and not self._aborted:
                    lane.blocked = items[0].spec
                    # If the blocked lanes together hold no full batch of one spec, a partial one must go.
                    self._ready.notify()
                    lane.space.wait()
                lane.blocked = None
            else:
                room = max(1, self._room(lane) // 2) if fresh else self._room(lane)
                while len(lane.items) >= room * len(items):
                    pushed_out += self._taken(lane.pop_frame())
            if self._aborted:
                raise Closed
            now_ns = self._clock.now_ns()
            lane.delivered(now_ns)
            for item in items:
                item.queued_ns = now_ns
            if not lane.items:
                self._share.holds_again(lane)
            lane.items.extend(items)
            self._waiting += len(items)
            self._of_spec.update(item.spec for item in items)
            if not self.fixed or self._waiting >= self.max_size:
                self._ready.notify()
            return pushed_out

    def close(self, key: StreamKey) -> None:
        """The lane's stream has ended; what it holds is still served."""
        with self._lock:
            lane = self._lanes.pop(key, None)
            if lane is not None:
                self._weights -= lane.terms.weight
                self._forget_if_done(lane)
            self._ready.notify_all()

    def finish(self) -> None:
        """No further lane will be opened: once all lanes are closed and empty, workers are sent home."""
        with self._lock:
            self._finished = True
            self._ready.notify_all()

    def abort(self) -> list[Item]:
        """Wake everybody with Closed; returns what was waiting."""
        with self._lock:
            self._aborted = True
            left = [item for lane in self._known.values() for item in lane.items]
            for lane in self._known.values():
                lane.items.clear()
                lane.space.notify_all()
            for lane in self._lanes.values():
                lane.space.notify_all()
            self._waiting = 0
            self._of_spec.clear()
            self._ready.notify_all()
            return left

    # Workers

    def take(self) -> Batch:
        """The next batch; waits for one. Raises Closed when no more will come."""
        asked_ns = self._clock.now_ns()
        with self._lock:
            self._free.append(asked_ns)
        try:
            while True:
                with self._lock:
                    batch, wait_ns = self._seal(self._clock.now_ns())
                    if batch is None and not self._shed:
                        self._ready.wait(None if wait_ns is None else wait_ns / 1e9)
                        continue
                    shed = self._take_shed()
                self._let_go(shed)
                if batch is not None:
                    return batch
        finally:
            with self._lock:
                self._free.remove(asked_ns)

    def poll(self, *, partial: bool = False) -> Batch | None:
        """A batch if one can be sealed now, else None. Raises Closed when no more will come.

        ``partial``: seal one that is not full as well, where there is no other: for whoever cannot wait.
        """
        with self._lock:
            batch = self._seal(self._clock.now_ns(), partial)[0]
            shed = self._take_shed()
        self._let_go(shed)
        return batch

    def look(self, free_ns: int, free: int = 1) -> tuple[Batch | None, int | None]:
        """What :meth:`take` does, for a simulation, whose workers are not threads: a batch, or in how many nanoseconds
        one is due (None: once more comes). ``free_ns``: since when the worker that asks has been free; ``free``: how
        many are, that one included.

        Raises Closed when no more will come.
        """
        with self._lock:
            self._free = [free_ns] * free
            batch, wait_ns = self._seal(self._clock.now_ns())
            shed = self._take_shed()
        self._let_go(shed)
        return batch, wait_ns

    def has_space(self, key: StreamKey, spec: InputSpec) -> bool:
        """Whether :meth:`offer` would take items of ``spec`` without waiting."""
        with self._lock:
            lane = self._lanes[key]
            return lane.terms.policy != "every_frame" or self._aborted or self._has_space(lane, spec)

    def served(self, items: int, duration_ns: int, waited_ns: int = 0) -> None:
        """Tell how long a batch of ``items`` took until its detections were there, and how long it had waited behind
        another one since it was submitted: how long to wait for the next ones follows from that."""
        with self._lock:
            self._service.add(items, duration_ns, waited_ns)

    @property
    def aborted(self) -> bool:
        """Whether :meth:`abort` was called."""
        return self._aborted

    @property
    def waiting(self) -> int:
        """Items in all lanes."""
        return self._waiting

    def waiting_per_stream(self) -> dict[str, int]:
        """Items that wait, by the name of the stream; streams without any included."""
        with self._lock:
            return {lane.key.name: len(lane.items) for lane in self._known.values()}

    # Inside the lock

    def _has_space(self, lane: Lane, spec: InputSpec) -> bool:
        held = len(lane.items)
        return held < self.lane_capacity or (held < self.max_size and self._of_spec[spec] < self.max_size)

    def _room(self, lane: Lane) -> int:
        """Frames that a lane of ``freshest`` holds: more where its share is larger than the usual one.

        Waiting takes as long in every lane then, and a lane can give its share without running dry.
        """
        usual = self._weights / len(self._lanes)
        return max(self.lane_capacity, math.ceil(self.lane_capacity * lane.terms.weight / usual))

    def _taken(self, items: list[Item]) -> list[Item]:
        self._waiting -= len(items)
        self._of_spec.subtract(item.spec for item in items)
        return items

    def _take_shed(self) -> list[Item]:
        shed, self._shed = self._shed, []
        return shed

    def _seal(self, now_ns: int, partial: bool = False) -> tuple[Batch | None, int | None]:
        """A batch, or how many nanoseconds to wait for one (None: until something happens)."""
        if self._aborted or (self._finished and not self._lanes and not self._waiting):
            raise Closed
        self._shed_stale(now_ns)
        if not self._waiting:
            return None, None
        holding = [lane for lane in self._known.values() if lane.items]
        wait_ns = 0 if self.fixed else self._wait_limit_ns(now_ns)
        first = min(holding, key=lambda lane: self._deadline_ns(lane, wait_ns))
        partial = partial or self._nothing_more_to_come()
        if self._waiting < self.max_size and not partial:
            if self.fixed:
                return None, None
            if not self._all_present(now_ns):
                left_ns = self._deadline_ns(first, wait_ns) - now_ns
                if left_ns > 0:
                    return None, left_ns
        wanted = first.items[0].spec
        spec = self._choose(wanted, holding, partial) if self.fixed else wanted
        return (None if spec is None else self._collect(spec, now_ns)), None

    def _deadline_ns(self, lane: Lane, wait_ns: int) -> int:
        """When its oldest item has to be sent off, full batch or not."""
        return min(lane.items[0].queued_ns + wait_ns, lane.due_ns(self._service.usual_ns))

    def _shed_stale(self, now_ns: int) -> None:
        for lane in [lane for lane in self._known.values() if lane.terms.staleness_ns is not None]:
            self._shed += self._taken(lane.pop_stale(now_ns, self._service.usual_ns))
            self._forget_if_done(lane)

    def _forget_if_done(self, lane: Lane) -> None:
        if not lane.items and lane.key not in self._lanes:
            self._known.pop(lane.key, None)

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

    def _nothing_more_to_come(self) -> bool:
        return self._finished and not self._lanes

    def _is_jammed(self) -> bool:
        return bool(self._lanes) and all(lane.blocked is not None for lane in self._lanes.values())

    def _all_present(self, now_ns: int) -> bool:
        return all(lane.items for lane in self._lanes.values() if lane.is_delivering(now_ns))

    def _wait_limit_ns(self, now_ns: int) -> int:
        """How long the oldest item waits for others."""
        if len(self._free) > 1:  # whoever comes next need not wait for this batch: another worker is free
            return 0
        intervals = [lane.interval_ns for lane in self._lanes.values() if lane.is_delivering(now_ns)]
        return round(min(self.max_wait_ns, min(intervals) / 4, self._service.saved_ns)) if intervals else 0

    def _collect(self, spec: InputSpec, now_ns: int) -> Batch:
        """A batch of the items whose turn it is."""
        lanes = list(self._known.values())
        chosen = self._taken(self._share.take(lanes, spec, self.max_size, now_ns, whole=self.fixed))
        for lane in lanes:
            self._forget_if_done(lane)
            if lane.blocked is not None and self._has_space(lane, lane.blocked):
                lane.space.notify()
        if self._waiting >= self.max_size or (self._waiting and not self.fixed):
            self._ready.notify()  # one frame may bring the items of several batches, but wakes one worker only
        self._number += 1
        size = self.max_size if self.fixed else len(chosen)
        return Batch(tuple(chosen), size, self._number, min(self._free, default=now_ns), now_ns)

    # Outside the lock

    def _let_go(self, shed: Sequence[Item]) -> None:
        for item in shed:
            self._account_for_shed(item)
