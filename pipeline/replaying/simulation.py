# SPDX-License-Identifier: Apache-2.0
"""A run of one thread under a clock that somebody moves: the same readers, scheduler and batches, in no time.

A discrete event simulation. Three things happen at a time of their own: a frame is ready for the detector (when it was
in the recording), a batch is done (after the time that one of its size took in the recording), and a batch is due that
is not full (when the scheduler says so). The earliest of them is next; of several at the same time batches go first,
then streams in their order. So the same recording always gives the same decisions, whatever this machine is doing.

Frames are really decoded, prepared and shown to the network, in threads of their own, while the simulation goes on to
what is next: each stream reads ahead, a frame is prepared when its batch is begun, so one that gives way before costs
its decoding only, and results are waited for when they are published, some batches later (:mod:`.behind`). What takes
no time here: following, and sinks. Both are beside the detector in a run as well, in threads of their own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pipeline.flow.deployment import Deployment
from pipeline.flow.inference import UnderWay
from pipeline.flow.lineup import Lineup
from pipeline.flow.turns import Readers
from pipeline.replaying.ahead import Ahead
from pipeline.replaying.behind import Behind
from pipeline.replaying.simulated_clock import SimulatedClock
from pipeline.replaying.timed import TimedPending
from pipeline.threads import Closed

Event = tuple[int, int, Callable[[], None]]
"""When, which of several at the same time is first, and what."""


class Simulation:
    """Drives a run of one thread (:data:`pipeline.flow.turns.Drive`) whose sources are all :class:`Ahead`.

    Args:
        clock: the flow's.
        workers: how many batches are under way at the same time at most.
        behind: where batches go that are done by the clock; what the flow emits goes through it as well.
    """

    def __init__(self, clock: SimulatedClock, workers: int, behind: Behind) -> None:
        self._clock = clock
        self._behind = behind
        self._idle = [(clock.now_ns(), worker) for worker in range(workers)]  # since when, and who
        self._busy: list[tuple[int, int, int, UnderWay]] = []  # until when, in which order, and who
        self._begun = 0

    def __call__(self, readers: Readers, models: Lineup) -> None:
        """Until all streams have ended and everything that was queued is served."""
        model = models.current
        while (event := self._next(readers, model)) is not None:
            at_ns, _, happen = event
            self._clock.set(max(at_ns, self._clock.now_ns()))
            happen()
        self._behind.catch_up()

    def _next(self, readers: Readers, model: Deployment) -> Event | None:
        """What happens next; None where nothing will."""
        due_ns = self._begin_batches(model)
        events: list[Event] = []
        if self._busy:
            events.append((self._busy[0][0], 0, partial(self._complete, model)))
        place = self._next_reader(readers, model)
        if place is not None:
            events.append((_ahead(readers, place).ready_ns, 1, partial(self._step, readers, place)))
        if due_ns is not None:
            events.append((due_ns, 2, _nothing))  # but that it is later, so that a batch can begin
        return min(events, key=lambda event: event[:2], default=None)

    def _begin_batches(self, model: Deployment) -> int | None:
        """Give idle workers what they can have now; returns when the next batch is due that is not full."""
        with suppress(Closed):
            while self._idle:
                batch, wait_ns = model.scheduler.look(self._idle[0][0], len(self._idle))
                if batch is None:
                    return None if wait_ns is None else self._clock.now_ns() + wait_ns
                _, worker = heapq.heappop(self._idle)
                under_way = model.runner.submit(batch)
                pending = under_way.pending
                until_ns = pending.due_ns if isinstance(pending, TimedPending) else self._clock.now_ns()
                self._begun += 1
                heapq.heappush(self._busy, (until_ns, self._begun, worker, under_way))
        return None

    def _complete(self, model: Deployment) -> None:
        """A batch has taken its time; what was found in it is for later."""
        until_ns, _, worker, under_way = heapq.heappop(self._busy)
        items = len(under_way.batch.items)
        if items:
            pending = under_way.pending
            began_ns = pending.began_ns if isinstance(pending, TimedPending) else under_way.began_ns
            model.scheduler.served(items, until_ns - began_ns, began_ns - under_way.began_ns)
            self._behind.batch(items, partial(self._publish, model, worker, under_way))
        heapq.heappush(self._idle, (self._clock.now_ns(), worker))

    def _publish(self, model: Deployment, worker: int, under_way: UnderWay) -> None:
        model.runner.worker = lambda: f"detect:{worker}"
        model.runner.complete(under_way, told=True)

    def _next_reader(self, readers: Readers, model: Deployment) -> int | None:
        """The place of the one whose frame is ready first, of those that need not wait for room in their lanes."""
        found: tuple[int, int] | None = None
        for place, (stream, _) in enumerate(readers):
            ahead = _ahead(readers, place)
            picture = ahead.look()
            if picture is not None and stream.opened and stream.terms.policy == "every_frame":
                spec = stream.stages[0].spec_for(picture, model.spec)
                if not model.scheduler.has_space(stream.key, spec):
                    continue
            if found is None or (ahead.ready_ns, place) < found:
                found = ahead.ready_ns, place
        return None if found is None else found[1]

    def _step(self, readers: Readers, place: int) -> None:
        """One frame of a stream: its reader begins when it did, and is done now."""
        now_ns = self._clock.now_ns()
        ahead = _ahead(readers, place)
        late_ns = now_ns - ahead.ready_ns  # it had to wait for room
        ahead.ready_ns = now_ns
        self._clock.set(ahead.begins_ns if not late_ns else now_ns)
        try:
            next(readers[place][1])
        except StopIteration:
            del readers[place]
        self._clock.set(now_ns)


def _ahead(readers: Readers, place: int) -> Ahead:
    source = readers[place][0].source
    assert isinstance(source, Ahead), "a simulation plays recordings only"
    return source


def _nothing() -> None:
    pass
