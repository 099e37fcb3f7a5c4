# SPDX-License-Identifier: Apache-2.0
"""The meeting point of many streams and few detect workers: fair batches out of one bounded lane per stream.

What becomes a batch, and when, is told in :mod:`sealing`; here producers and workers wait for each other.

**What happens when a lane is full.** ``every_frame`` blocks its producer; ``freshest`` pushes its oldest frame out and
hands it back to the producer, who accounts for it; where frames cost nothing yet (``fresh``) it holds half as many, so
that they are younger. Blocking cannot deadlock: a lane takes an item as long as all lanes together hold less than one
batch of its spec.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from pipeline.flow.lanes import EVERY_FRAME, Terms
from pipeline.flow.sealing import Waiting
from pipeline.frame import Batch, InputSpec, Item, StreamKey
from pipeline.threads import Closed
from pipeline.timing import SYSTEM, Clock


class BatchScheduler:
    """Collects items of many lanes into batches. Thread-safe; any number of producers and workers.

    Args:
        max_size: items per batch at most.
        fixed: one batch size from the first frame to the last (recordings).
        max_wait_ns: upper bound of the wait for a fuller batch.
        lane_capacity: frames that a lane holds.
        clock: where time comes from.
        shed: is given the items that have become too old to be served, by the thread that finds them.
    """

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
        self._waiting = Waiting(max_size, fixed=fixed, max_wait_ns=max_wait_ns, lane_capacity=lane_capacity)
        self._clock = clock
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._account_for_shed = shed
        self._free: list[int] = []  # since when workers have waited for a batch
        self._finished = False
        self._aborted = False

    # Producers

    def open(self, key: StreamKey, terms: Terms = EVERY_FRAME) -> None:
        """Open a lane."""
        with self._lock:
            self._waiting.open_lane(key, terms, threading.Condition(self._lock))

    def loses(self, key: StreamKey) -> bool:
        """Whether frames of this stream have been lost lately, so that the next one may well be lost as well."""
        with self._lock:
            return self._waiting.open[key].loses

    def turns_away(self, key: StreamKey, parts: int = 1) -> bool:
        """Whether a frame of ``parts`` items is lost before it was prepared, for its reader is behind.

        Where its lane is full there is something to be served, and to catch up comes first; half full will do where
        frames have been lost lately, so that what waits is younger. Never of ``every_frame``.
        """
        with self._lock:
            lane = self._waiting.open[key]
            room = self._waiting.room(lane)
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
            lane = self._waiting.open[key]
            pushed_out: list[Item] = []
            if lane.terms.policy == "every_frame":
                while not self._waiting.has_space(lane, items[0].spec) and not self._aborted:
                    lane.blocked = items[0].spec
                    # If the blocked lanes together hold no full batch of one spec, a partial one must go.
                    self._ready.notify()
                    lane.space.wait()
                lane.blocked = None
            else:
                room = self._waiting.room(lane)
                room = max(1, room // 2) if fresh else room
                while len(lane.items) >= room * len(items):
                    pushed_out += self._waiting.push_out(lane)
            if self._aborted:
                raise Closed
            now_ns = self._clock.now_ns()
            lane.delivered(now_ns)
            for item in items:
                item.queued_ns = now_ns
            self._waiting.add(lane, items)
            if not self._waiting.fixed or self._waiting.items >= self._waiting.max_size:
                self._ready.notify()
            return pushed_out

    def close(self, key: StreamKey) -> None:
        """The lane's stream has ended; what it holds is still served."""
        with self._lock:
            self._waiting.close_lane(key)
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
            left = self._waiting.clear()
            for lane in self._waiting.known.values():
                lane.space.notify_all()
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
                    shed = self._waiting.take_shed()
                    if batch is None and not shed:
                        self._ready.wait(None if wait_ns is None else wait_ns / 1e9)
                        continue
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
            shed = self._waiting.take_shed()
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
            shed = self._waiting.take_shed()
        self._let_go(shed)
        return batch, wait_ns

    def has_space(self, key: StreamKey, spec: InputSpec) -> bool:
        """Whether :meth:`offer` would take items of ``spec`` without waiting."""
        with self._lock:
            lane = self._waiting.open[key]
            return lane.terms.policy != "every_frame" or self._aborted or self._waiting.has_space(lane, spec)

    def served(self, items: int, duration_ns: int, waited_ns: int = 0) -> None:
        """Tell how long a batch of ``items`` took until its detections were there, and how long it had waited behind
        another one since it was submitted: how long to wait for the next ones follows from that."""
        with self._lock:
            self._waiting.served(self._clock.now_ns(), items, duration_ns, waited_ns)

    @property
    def aborted(self) -> bool:
        """Whether :meth:`abort` was called."""
        return self._aborted

    @property
    def waiting(self) -> int:
        """Items in all lanes."""
        return self._waiting.items

    def waiting_per_stream(self) -> dict[str, int]:
        """Items that wait, by the name of the stream; streams without any included."""
        with self._lock:
            return {lane.key.name: len(lane.items) for lane in self._waiting.known.values()}

    # Inside the lock

    def _seal(self, now_ns: int, partial: bool = False) -> tuple[Batch | None, int | None]:
        """See :meth:`Waiting.seal`; raises Closed when no more will come."""
        waiting = self._waiting
        if self._aborted or (self._finished and not waiting.open and not waiting.items):
            raise Closed
        batch, wait_ns = waiting.seal(now_ns, self._free, partial=partial, finished=self._finished)
        if batch is not None:
            for lane in waiting.known.values():
                if lane.blocked is not None and waiting.has_space(lane, lane.blocked):
                    lane.space.notify()
            if waiting.items >= waiting.max_size or (waiting.items and not waiting.fixed):
                self._ready.notify()  # one frame may bring the items of several batches, but wakes one worker only
        return batch, wait_ns

    # Outside the lock

    def _let_go(self, shed: Sequence[Item]) -> None:
        for item in shed:
            self._account_for_shed(item)
