# SPDX-License-Identifier: Apache-2.0
"""What the measured costs come to: the real scheduler on a simulated machine, frame by frame.

Readers, workers, the follow loop and the sinks are threads that share the cores (:mod:`pipeline.plan.processor`), each
with the work that was measured for it. Who is served when, what waits for company, and what has to give way is decided
by :class:`pipeline.flow.batching.BatchScheduler` itself, on the clock of that machine.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from pipeline.flow.batching import BatchScheduler
from pipeline.flow.stream import FlowOptions
from pipeline.frame import Batch, Frame, Geometry, Item, StreamKey
from pipeline.plan.costs import Costs, NetworkCosts
from pipeline.plan.outcome import Load, Outcome, Predicted
from pipeline.plan.processor import Machine, Server, Then
from pipeline.timing import Mark, new_trace

WARM_S: Final = 2.0
"""What is left out at the beginning: rates are not known yet, streams have just opened."""
GRACE_S: Final = 1.0
"""A frame that is done so long after the end still counts as one that is not lost."""
FOLLOWING: Final = 0.15
"""Share of the other costs of a frame that the follow loop has; readers have the rest."""
MOST_FRAMES: Final = 20_000
"""Decoded frames that one simulation looks at, at most: with very many streams it covers less time."""

_PIXELS: Final = np.empty((1, 1, 3), np.uint8)
_GEOMETRY: Final = Geometry(1, 1, 1, 1)


def simulate(
    loads: Sequence[Load],
    costs: Costs,
    options: FlowOptions,
    *,
    seconds: float,
    speed: float = 1.0,
    depth: int = 1,
    exclusive: bool = False,
) -> Outcome:
    """Let the streams run for :data:`WARM_S`, and then for ``seconds`` (less where that would be too many frames).

    Args:
        loads: at least one; each name once.
        costs: of the network, of everything else per frame, and the cores that there are.
        options: batch size, wait and workers, as the run has them.
        seconds: of the window.
        speed: all sources deliver so many times as many frames.
        depth: batches that a worker keeps under way.
        exclusive: the network lets one thread in at a time.
    """
    rate = sum(load.costs.fps for load in loads) * speed
    seconds = max(1.0, min(seconds, MOST_FRAMES / max(rate, 1e-9) - WARM_S - GRACE_S))
    return _Run(loads, costs, options, seconds, speed, depth, exclusive).run()


class _Run:
    def __init__(
        self,
        loads: Sequence[Load],
        costs: Costs,
        options: FlowOptions,
        seconds: float,
        speed: float,
        depth: int,
        exclusive: bool,
    ) -> None:
        self.machine = Machine(costs.cores)
        self.speed = speed
        self.begin_ns, self.end_ns = WARM_S * 1e9, (WARM_S + seconds) * 1e9
        self.use_ns: dict[str, float] = defaultdict(float)
        self.batches: Counter[int] = Counter()
        self._network: NetworkCosts = costs.network
        self.overhead_ns, self.lost_ns = costs.overhead_ms * 1e6, costs.lost_ms * 1e6
        self._outlet_capacity = options.outlet_capacity
        self._rng = random.Random(0)
        self._shed: list[Item] = []
        self.scheduler = BatchScheduler(
            options.batch_size,
            max_wait_ns=int(options.max_wait_ms * 1e6),
            clock=self.machine,
            shed=self._shed.append,
        )
        self._free = options.workers * depth
        self.workers_prepare = depth == 1  # see Deployment
        self._turns = Server(self.machine) if exclusive else None
        self._device = Server(self.machine, cores=False)
        self._follow = Server(self.machine)
        self.sinks = {name: Server(self.machine) for load in loads for name in load.sinks_ms}
        self.readers = {load.name: _Reader(self, load) for load in loads}
        self.blocked: list[_Reader] = []
        self._due_ns: int | None = None  # when a partial batch goes

    def run(self) -> Outcome:
        """From the beginning to the end."""
        for reader in self.readers.values():
            self.machine.at(1, reader.open)
        self.machine.run(self.begin_ns)
        busy_ns = self.machine.busy_ns
        self.machine.run(self.end_ns)
        seconds = (self.end_ns - self.begin_ns) / 1e9
        cores = (self.machine.busy_ns - busy_ns) / (self.end_ns - self.begin_ns)
        whole_ns = self.machine.now_ns()
        device = self._device.work_ns / whole_ns
        use = {what: work_ns / whole_ns for what, work_ns in self.use_ns.items()}
        self.machine.run(self.end_ns + GRACE_S * 1e9)
        for reader in self.readers.values():
            reader.count_wanted()
        return Outcome(
            seconds,
            {name: reader.predicted for name, reader in self.readers.items()},
            cores,
            use,
            min(1.0, device),
            dict(sorted(self.batches.items())),
        )

    def serve(self) -> None:
        """Give free workers what they can have, and come back when a partial batch is due."""
        wait_ns: int | None = None
        while self._free:
            batch, wait_ns = self.scheduler.look(self.machine.now_ns(), self._free)
            if batch is None:
                break
            self._start(batch)
        self._account_for_shed()
        for reader in self.blocked.copy():
            reader.retry()
        if self._free and wait_ns is not None and self.machine.now_ns() + wait_ns != self._due_ns:
            self._due_ns = self.machine.now_ns() + wait_ns
            self.machine.at(self._due_ns, self._due)

    def _due(self) -> None:
        self._due_ns = None
        self.serve()

    def _start(self, batch: Batch) -> None:
        self._free -= 1
        size = len(batch.items)
        self.batches[size] += 1
        cost = self._network.draw(batch.spec, size, self._rng)
        self.use_ns["network"] += cost.cpu_ns * self._network.threads
        left_ns = sum(self.readers[item.frame.stream.name].left_ns.pop(item.frame.sequence, 0) for item in batch.items)
        self.use_ns["preprocess"] += left_ns
        began_ns = self.machine.now_ns()

        def done() -> None:
            self._free += 1
            self.scheduler.served(size, self.machine.now_ns() - began_ns)
            for item in batch.items:
                self.readers[item.frame.stream.name].detected(item.frame)
            self.serve()

        def stalled() -> None:
            self.machine.at(self.machine.now_ns() + cost.stalled_ns, done)

        def computed() -> None:
            if cost.away_ns:
                self._device.give(cost.away_ns, stalled)
            else:
                stalled()

        def prepared() -> None:
            if self._turns is not None:
                self._turns.give(cost.cpu_ns, computed)
            else:
                self.machine.work(cost.cpu_ns, computed, self._network.threads)

        if left_ns:
            self.machine.work(left_ns, prepared)
        else:
            prepared()

    def _account_for_shed(self) -> None:
        shed = self._shed.copy()
        self._shed.clear()
        for item in shed:
            self.readers[item.frame.stream.name].lost(item.frame, "stale")

    def publish(self, frame: Frame, reader: _Reader) -> None:
        """The frame's turn in its stream has come."""

        def followed() -> None:
            left = len(reader.load.sinks_ms)
            if not left:
                reader.finished(frame)

            def written() -> None:
                nonlocal left
                left -= 1
                if not left:
                    reader.finished(frame)

            for name, work_ms in reader.load.sinks_ms.items():
                if len(self.sinks[name]) >= self._outlet_capacity:
                    reader.predicted.lost["sink"] += 1
                    written()
                    continue
                self.use_ns["sinks"] += work_ms * 1e6
                self.sinks[name].give(work_ms * 1e6, written)

        self.follow(followed)

    def follow(self, then: Then) -> None:
        """Something became of a frame."""
        self._follow.give(FOLLOWING * self.overhead_ns, then)


def _nothing() -> None:
    """Nobody hears of a frame that is lost."""


class _Reader:
    """One stream's reader: decodes a frame ahead, holds it until it is due, prepares it, queues it; then the next."""

    def __init__(self, run: _Run, load: Load) -> None:
        self.load = load
        self.predicted = Predicted()
        self._run = run
        self._key = StreamKey(load.name, 1)
        self._spec = load.costs.spec
        self._index = 0
        self._base_ns: float | None = None
        self._began_ns: deque[int] = deque(maxlen=64)  # when the latest reads began
        self._blocked: Frame | None = None  # waits for room in its lane
        self._sequence = 0
        self._turn = 0
        self._over: dict[int, Frame | None] = {}  # detected, or lost (None), before its turn
        self._within: dict[int, bool] = {}  # by sequence number: whether it was due within the window
        self.left_ns: dict[int, int] = {}  # likewise: what preparing costs that was left to whoever takes it

    def open(self) -> None:
        run, costs = self._run, self.load.costs
        run.scheduler.open(self._key, self.load.terms)
        wait_ns = self.load.phase * costs.interval_s / max(costs.kept, 1e-3) / run.speed * 1e9
        run.machine.at(run.machine.now_ns() + wait_ns, self._read)

    def _read(self) -> None:
        run, costs = self._run, self.load.costs
        lap, place = divmod(self._index, len(costs.frames))
        work_ns = costs.frames[place].decode_ns + round(costs.isolation_ms * 1e6)
        if lap and not place and costs.lap_ns:
            work_ns += costs.lap_ns
        self._began_ns.append(run.machine.now_ns())
        run.use_ns["decode"] += work_ns
        run.machine.work(work_ns, self._decoded)

    def _decoded(self) -> None:
        run = self._run
        now_ns = run.machine.now_ns()
        if self._base_ns is None:
            self._base_ns = now_ns - self._at_ns(0)
        due_ns = self._base_ns + self._at_ns(self._index)
        run.machine.at(due_ns, lambda: self._deliver(max(0.0, due_ns - now_ns), due_ns))

    def _at_ns(self, index: int) -> float:
        """When a frame comes, from the beginning of the stream."""
        costs = self.load.costs
        lap, place = divmod(index, len(costs.frames))
        return (lap * costs.lap_s + costs.frames[place].pts_s - costs.frames[0].pts_s) / self._run.speed * 1e9

    def count_wanted(self) -> None:
        """Frames that were due within the window, whether the reader got to them or not."""
        run, frames = self._run, self.load.costs.frames
        base_ns = 0.0 if self._base_ns is None else self._base_ns
        index = 0
        while (due_ns := base_ns + self._at_ns(index)) < run.end_ns:
            self.predicted.wanted += due_ns >= run.begin_ns and frames[index % len(frames)].prepare_ns is not None
            index += 1

    def _deliver(self, held_ns: float, due_ns: float) -> None:
        run = self._run
        cost = self.load.costs.frames[self._index % len(self.load.costs.frames)]
        self._index += 1
        if cost.prepare_ns is None:
            self._read()
            return
        began = self._began_ns[max(-len(self._began_ns), -1 - cost.lag)]
        frame = Frame(self._key, self._sequence, self._index, 0.0, None, 0, 1, 1, None, new_trace())
        frame.trace[Mark.READ] = round(began + held_ns)
        self._within[self._sequence] = run.begin_ns <= due_ns < run.end_ns
        self._sequence += 1
        run.use_ns["other"] += run.overhead_ns
        reading_ns = (1 - FOLLOWING) * run.overhead_ns
        if run.workers_prepare and run.scheduler.loses(self._key):
            self.left_ns[frame.sequence] = cost.prepare_ns
            run.machine.work(reading_ns, lambda: self._offer(frame))
            return
        is_behind = run.machine.now_ns() - due_ns > self.load.costs.interval_s / run.speed * 1e9
        if is_behind and run.scheduler.turns_away(self._key):
            self._gave_way([frame], reading_ns)
            return
        run.use_ns["preprocess"] += cost.prepare_ns

        def prepared() -> None:
            run.machine.at(run.machine.now_ns() + cost.stalled_ns, lambda: self._offer(frame))

        run.machine.work(cost.prepare_ns + reading_ns, prepared)

    def _offer(self, frame: Frame) -> None:
        run = self._run
        if not run.scheduler.has_space(self._key, self._spec):
            self._blocked = frame
            run.blocked.append(self)
            return
        items = [Item(frame, self._spec, _PIXELS, _GEOMETRY)]
        pushed_out = run.scheduler.offer(self._key, items, fresh=frame.sequence in self.left_ns)
        run.serve()
        self._gave_way([item.frame for item in pushed_out])

    def _gave_way(self, frames: Sequence[Frame], reading_ns: float = 0.0) -> None:
        """Frames that are lost to newer ones cost something, too; then on to the next one."""
        run = self._run
        for frame in frames:
            self.lost(frame, "overflow")
        lost_ns = run.lost_ns * len(frames)
        run.use_ns["other"] += lost_ns
        run.machine.work(lost_ns + reading_ns, self._read)

    def retry(self) -> None:
        """There may be room now for the frame that waits for it."""
        if self._blocked is not None and self._run.scheduler.has_space(self._key, self._spec):
            frame, self._blocked = self._blocked, None
            self._run.blocked.remove(self)
            self._offer(frame)

    def detected(self, frame: Frame) -> None:
        self._settle(frame.sequence, frame)

    def lost(self, frame: Frame, reason: str) -> None:
        self.left_ns.pop(frame.sequence, None)
        if self._within.pop(frame.sequence):
            self.predicted.lost[reason] += 1
        self._settle(frame.sequence, None)

    def _settle(self, sequence: int, frame: Frame | None) -> None:
        """Frames are published in the order of the stream."""
        self._over[sequence] = frame
        while self._turn in self._over:
            ready = self._over.pop(self._turn)
            self._turn += 1
            if ready is not None:
                self._run.publish(ready, self)
            else:
                self._run.follow(_nothing)

    def finished(self, frame: Frame) -> None:
        run = self._run
        now_ns = run.machine.now_ns()
        self.predicted.done += self._within.pop(frame.sequence)
        if run.begin_ns <= now_ns < run.end_ns:
            self.predicted.finished += 1
            self.predicted.latencies_ms.append((now_ns - frame.trace[Mark.READ]) / 1e6)
