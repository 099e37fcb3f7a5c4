# SPDX-License-Identifier: Apache-2.0
"""A model at work: its detector, the batches that it is given, and the workers that run it.

Each model has all of these for itself, so that two can be at work side by side: while one is being swapped for the
other, what was prepared for the first is served by the first, whatever size, classes or weights the second has.
Workers warm the detector themselves: much of what is warmed belongs to a thread. They do so while the model before is
at work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from pipeline.complaints import Complaints
from pipeline.flow.batching import BatchScheduler
from pipeline.flow.inference import BatchRunner
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Batch, Item, Outcome, StreamKey
from pipeline.frame.buffers import BufferPool, aligned
from pipeline.ledger import Ledger
from pipeline.protocols import Detector
from pipeline.threads import Channel, Put, WorkerGroup
from pipeline.timing import Clock


class Deployment:
    """One model and everything that is its own.

    Args:
        detector: the model; whoever made it closes it, but for one that was swapped out, see :class:`Lineup`.
        options: ``batch_size``, ``fixed_batch``, ``max_wait_ms`` and ``workers`` are the model's.
        ledger, complaints: of the run.
        emit: takes the outcomes of items.
        clock: where time comes from.
        serve: what a worker does once it may.
        number: of the models of a run, from 1.

    Attributes:
        spec, labels, buffers: see :class:`stream.Model`.
        threads: its workers.
        inline: it has none, see :meth:`do_without_workers`.
        ended: set when the last worker has gone home and a model that was swapped out has been closed.
    """

    def __init__(
        self,
        detector: Detector,
        options: FlowOptions,
        ledger: Ledger,
        emit: Put[Outcome],
        clock: Clock,
        complaints: Complaints,
        serve: Callable[[Deployment], None],
        number: int = 1,
    ) -> None:
        self.detector = detector
        self.options = options
        self.number = number
        self.spec, self.labels = detector.spec, detector.labels
        self.buffers = BufferPool(allocate=getattr(detector, "allocate", aligned))
        self.scheduler = BatchScheduler(
            options.batch_size,
            fixed=options.fixed_batch,
            max_wait_ns=int(options.max_wait_ms * 1e6),
            clock=clock,
            shed=self._shed,
        )
        self.runner = BatchRunner(detector, self.scheduler, self.buffers, ledger, emit, clock.now_ns, complaints)
        self.threads = WorkerGroup()
        self.working = options.workers  # guarded by the lineup's lock
        self.ended = threading.Event()
        self._serve = serve
        self._emit = emit
        self._now = clock.now_ns
        self.inline = False
        self._go = threading.Event()
        self._wanted = False
        # A worker that computes by itself may as well prepare; one that feeds a device must not let it wait.
        self._prepares = detector.depth == 1 and not options.fixed_batch

    def do_without_workers(self) -> None:
        """Whoever offers something serves it as well (:meth:`Pipeline.run_inline`). Before :meth:`warm`."""
        self.inline, self.working = True, 1

    def warm(self, *, in_turn: bool = False) -> None:
        """Start the workers: each makes the detector ready for itself and waits for :meth:`begin` or :meth:`dismiss`.

        ``in_turn``: one after the other, so that a model that is at work keeps the other cores. Raises what warming
        raised.
        """
        sizes = self._batch_sizes()
        if self.inline:
            self.detector.warm(sizes)
            return
        ready: Channel[BaseException | None] = Channel(self.options.workers)

        def work() -> None:
            try:
                self.detector.warm(sizes)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for this one
                ready.put(error)
                return
            ready.put(None)
            self._go.wait()
            if self._wanted:
                self._serve(self)

        suffix = "" if self.number == 1 else f"@{self.number}"
        for worker in range(self.options.workers):
            self.threads.start(f"detect:{worker}{suffix}", work)
            if in_turn and (failure := ready.get()) is not None:
                raise failure
        failures = [] if in_turn else [ready.get() for _ in range(self.options.workers)]
        for failure in filter(None, failures):
            raise failure

    def begin(self) -> None:
        """Let the workers serve."""
        self._wanted = True
        self._go.set()

    def dismiss(self, timeout_s: float) -> bool:
        """It will not be at work: send the workers home and close the detector; False where one of them hangs."""
        self._go.set()
        if self.threads.join(timeout_s):
            return False
        self.close()
        return True

    def enter(self, stream: Stream) -> None:
        """The next frames of this stream come here; under its fence."""
        self.scheduler.open(stream.key, stream.terms)
        stream.model = self

    def leave(self, key: StreamKey) -> None:
        """No more frames of this stream will come; what is queued is still served."""
        self.scheduler.close(key)

    def prepares(self, key: StreamKey) -> bool:
        """Whether a worker prepares the next frame of this stream, when it takes it: it may well be lost before."""
        return self._prepares and self.scheduler.loses(key)

    def turns_away(self, key: StreamKey, parts: int) -> bool:
        """Whether a frame that comes late is lost before it is prepared, see :meth:`BatchScheduler.turns_away`."""
        return self.scheduler.turns_away(key, parts)

    def offer(self, key: StreamKey, items: Sequence[Item]) -> list[Item]:
        """Queue the inputs of one frame; returns those that had to give way. Raises Closed once aborted."""
        if self.inline:
            while not self.scheduler.has_space(key, items[0].spec):  # nobody else could make some
                self.runner.serve(self.scheduler.poll(partial=True))
        fresh = items[0].make is not None
        if fresh and self.inline:  # no worker will: who reads is who serves
            items = [item for item in items if self.runner.prepare(item, Batch((item,), 1, 0))]
            for item in items:
                item.made_ns = (0, 0)  # not behind its wait
        return self.scheduler.offer(key, items, fresh=fresh) if items else []

    def close(self) -> None:
        """Let go of the detector and of the memory for its inputs."""
        self.detector.close()
        self.buffers.trim()
        self.ended.set()

    def _shed(self, item: Item) -> None:
        """An item has become too old while it waited."""
        if item.make is None:
            self.buffers.release(item.input)
        marks = (item.queued_ns, self._now())
        self._emit(Outcome(item.frame, dropped="stale", part=item.part, of=item.of, marks=marks))

    def _batch_sizes(self) -> list[int]:
        largest = self.options.batch_size
        return [largest] if self.options.fixed_batch else list(range(1, largest + 1))
