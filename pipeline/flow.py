# SPDX-License-Identifier: Apache-2.0
"""The route of a frame, on one page: four loops, and the Pipeline that owns their threads.

::

    read (one per open stream)   source -> stages -> scheduler
    detect (K workers)           batch -> detector -> outcomes
    follow (one)                 joins parts, restores each stream's order, publishes
    write (one per sink)         outlet -> sink

Every frame that a reader keeps gets the stream's next sequence number and ends in exactly one outcome: detections,
nobody looked, or dropped for a reason. Stopping flows the way frames flow: readers end their lanes, the scheduler sends
the workers home, the last worker ends ``follow``, ``follow`` ends the sinks. Whoever consumes a meeting point aborts
everything when it fails, so nobody waits for a thread that is gone.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pipeline.batching import BatchScheduler
from pipeline.complaints import Complaints
from pipeline.errors import ModelHung, PipelineError, SourceError
from pipeline.frame import Item, Outcome, StreamKey
from pipeline.inference import BatchRunner, UnderWay
from pipeline.ledger import Ledger
from pipeline.memory import BufferPool, aligned
from pipeline.outlet import Event, Outlet, open_all
from pipeline.preparing import Preparer
from pipeline.protocols import Detector, Sink
from pipeline.publishing import Closing, Opened, Publisher
from pipeline.roster import Roster
from pipeline.stream import FlowOptions, Pictures, Stream
from pipeline.threads import Channel, Closed, WorkerGroup
from pipeline.timing import SYSTEM, Clock

log = logging.getLogger("pipeline")


class Pipeline:
    """Many streams through one detector into several sinks.

    ``start``, then ``add`` streams, ``finish`` when no more will be added, and ``join``. ``run_inline`` drives the same
    bodies in the calling thread. ``ledger`` holds every count and time, also while running. ``pause(name, paused)``
    holds a stream or lets it go on, ``waiting()`` counts the frames in its lane (:mod:`pipeline.roster`, ``batching``).
    """

    def __init__(
        self, detector: Detector, sinks: Sequence[Sink], options: FlowOptions, *, clock: Clock = SYSTEM
    ) -> None:
        self.detector = detector
        self.options = options
        self.ledger = Ledger()
        self.buffers = BufferPool(allocate=getattr(detector, "allocate", aligned))
        self.failure: BaseException | None = None
        self._now = clock.now_ns
        self._scheduler = BatchScheduler(
            options.batch_size, fixed=options.fixed_batch, max_wait_ns=int(options.max_wait_ms * 1e6), clock=clock
        )
        # A handful is enough: readers and workers may run ahead of `follow` only as far as this.
        self._inbox: Channel[Outcome | Opened | Closing] = Channel(4 * options.batch_size + 16)
        capacity, policy, required = options.outlet_capacity, options.outlet_policy, options.required_sinks
        self._outlets = [Outlet(sink, capacity, policy, required=sink.name in required) for sink in sinks]
        self.ledger.sinks = {outlet.sink.name: outlet.account for outlet in self._outlets}
        self._pictures = Pictures(any(sink.wants_pictures for sink in sinks), options.tap)
        self._complaints = Complaints(log, clock)
        self._wire(self._inbox.put, Outlet.put, self._read_in_thread, self._scheduler.offer)
        self._roster = Roster(options.parallel)
        self.pause, self.waiting = self._roster.pause, self._scheduler.waiting_per_stream
        self._group = WorkerGroup()
        self._lock = threading.Lock()
        self._working = options.workers  # detect loops that have not ended; guarded by the lock

    def _wire(
        self,
        emit: Callable[[Outcome | Opened | Closing], object] | None,
        deliver: Callable[[Outlet, Event], None],
        start_reader: Callable[[Stream], None],
        offer: Callable[[StreamKey, Sequence[Item]], list[Item]],
    ) -> None:
        """Say what stands between the bodies: channels and threads, or nothing (``run_inline``)."""

        def deliver_to_all(event: Event) -> None:
            for outlet in self._outlets:
                deliver(outlet, event)

        self._start_reader = start_reader
        self._publisher = Publisher(
            deliver_to_all, len(self._outlets), self.ledger, self._now, self._complaints, self._pictures
        )
        self._emit = emit = emit or self._publisher.handle
        self._preparer = Preparer(
            self.detector.spec, self.buffers, offer, emit, self._now, self._complaints, self._pictures
        )
        self._runner = BatchRunner(
            self.detector, self._scheduler, self.buffers, self.ledger, emit, self._now, self._complaints
        )

    # The four loops

    def _read(self, stream: Stream) -> Generator[None]:
        """source -> stages -> scheduler. One step per frame, so that a thread or ``run_inline`` can drive it."""
        source, account = stream.source, stream.account
        try:
            stream.labels = self.detector.labels
            info = replace(source.open(stream.stop), name=account.name, labels=stream.labels)
            with stream.fence:
                stream.check()
                if stream.stop.is_set():  # what was asked to stop while it opened has nothing to show
                    raise Closed
                account.opened(info, source.counters, self._now())
                self._emit(Opened(stream, info))
                self._scheduler.open(stream.key, stream.weight, stream.policy)
                stream.opened = True
            while (capture := source.read()) is not None:
                with stream.fence:
                    stream.check()
                    # Asked before it is counted: what a plug-in raises here costs the stream, not the balance.
                    kept = stream.keep(capture)
                    wanted = kept and stream.gate(capture)
                    account.arrived(capture.read_ns, capture.pts_s, capture.epoch, capture.corrupt)
                    if kept:
                        self._preparer.prepare(stream, capture, stream.frames, wanted)
                        stream.frames += 1
                    else:
                        account.decimated += 1
                    at_limit = account.decoded == stream.limit
                if at_limit:
                    break
                yield
            stream.check()
            account.ended(source.truncation, at_limit=account.decoded == stream.limit, asked=stream.stop.is_set())
        except SourceError as error:
            if not stream.ended:
                account.failed(str(error))
                log.error("%s: %s", account.name, error)
        except Closed:
            if not stream.ended:
                account.ended(None, at_limit=False, asked=True)
        except Exception as error:  # a plug-in may raise anything; it costs this stream only
            if not stream.ended:
                account.failed(f"{type(error).__name__}: {error}")
            log.exception("%s: reading failed", account.name)
        finally:
            try:
                source.close()
            except Exception:  # a plug-in may raise anything; the stream has ended anyway
                log.exception("%s: closing failed", account.name)
            self._end(stream)

    def _detect(self) -> None:
        """batch -> detector -> outcomes, with up to ``detector.depth`` batches under way."""
        under_way: deque[UnderWay] = deque()
        try:
            while True:
                batch = self._scheduler.poll() if under_way else self._scheduler.take()
                if batch is not None:
                    under_way.append(self._runner.submit(batch))
                if batch is None or len(under_way) >= self.detector.depth:
                    self._runner.complete(under_way.popleft())
        except Closed:
            for batch_under_way in under_way:
                self._runner.complete(batch_under_way)
        finally:
            with self._lock:
                self._working -= 1
                last = not self._working
            if last:
                self._inbox.close()

    def _follow(self) -> None:
        """Outcomes -> in order -> published."""
        try:
            while True:
                self._publisher.handle(self._inbox.get())
        except Closed:
            for outlet in self._outlets:
                outlet.channel.close()

    def _write(self, outlet: Outlet) -> None:
        """outlet -> sink."""
        try:
            while True:
                outlet.write(outlet.channel.get(), self._now)
        finally:
            outlet.close()

    def _end(self, stream: Stream) -> None:
        """What is owed to the others when a stream ends: once, by its reader or by whoever gave that up."""
        with stream.fence:
            if stream.ended:
                return
            stream.ended = True
        self._close(stream)

    def _close(self, stream: Stream) -> None:
        if stream.opened:
            self._scheduler.close(stream.key)
            with suppress(Closed):
                self._emit(Closing(stream, stream.frames))
        self._roster.closed(stream)
        self._open_more()

    # Life

    def start(self) -> None:
        """Open the sinks and warm the detector in the threads that will run it; raises SinkError or ModelError."""
        open_all(self._outlets)
        warm: Channel[BaseException | None] = Channel(self.options.workers)
        go = threading.Event()

        def work() -> None:
            try:
                self.detector.warm(self._batch_sizes())
            except BaseException as error:
                warm.put(error)
                raise
            warm.put(None)
            go.wait()
            self._detect()

        started = False
        try:
            for number in range(self.options.workers):
                self._start(f"detect:{number}", work)
            failure = next(filter(None, [warm.get() for _ in range(self.options.workers)]), None)
            if failure is not None:
                raise failure
            self._start("follow", self._follow)
            for outlet in self._outlets:
                self._start(f"write:{outlet.sink.name}", partial(self._write, outlet))
            started = True
        finally:
            if not started:
                self.abort()
                for outlet in self._outlets:
                    outlet.close()
            self.ledger.begin(self._now())
            go.set()

    def add(self, stream: Stream) -> None:
        """Take a stream in; it opens as soon as fewer than ``parallel`` are open, or never after a stop."""
        self.ledger.add(stream.account)
        self._roster.add(stream)
        self._open_more()

    def remove(self, name: str) -> None:
        """Ask one stream to stop; the frames that it has queued are still served."""
        self._roster.stop(name)

    def abandon(self, name: str) -> bool:
        """Give up the reader of a stream that hangs in native code: the stream ends without it, as failed, and its
        thread is left behind. False where there is none, or it is not its source that it waits for."""
        stream = self._roster.find(name)
        if stream is None or not stream.fence.acquire(blocking=False):
            return False
        try:
            if stream.ended:
                return False
            stream.ended = True  # whatever its source returns one day is nobody's any more
        finally:
            stream.fence.release()
        stream.stop.set()
        stream.account.failed("its reader hung in native code and was left behind")
        self._start(f"end:{name}", partial(self._close, stream))  # it may wait for `follow`; the caller must not
        return True

    def finish(self) -> None:
        """No more streams will be added: once all have ended, everything drains and ends."""
        self._roster.finish()
        self._open_more()

    def stop(self) -> None:
        """Ask all streams to stop. What they have queued is served, then everything ends. May be called often."""
        self._roster.finish()
        self._roster.stop()
        self._open_more()

    def abort(self) -> None:
        """Stop now: what is under way is dropped and counted as ``shutdown``."""
        self.stop()
        self._scheduler.abort()
        self._inbox.abort()
        for outlet in self._outlets:
            outlet.channel.abort()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of all loops; False when ``timeout_s`` passed first. Closes the accounts at the end.

        Raises what killed a loop, and PipelineError when the accounts do not balance.
        """
        if self._group.join(timeout_s):
            return False
        self._settle()
        return True

    def check_model(self, limit_s: float) -> None:
        """Abort and raise ModelHung when a batch has been in the network for longer than ``limit_s``."""
        since_s = self._runner.longest_ns() / 1e9
        if since_s > limit_s:
            self.abort()
            raise ModelHung(f"the model has not answered for {since_s:.0f} s (model.timeout_s is {limit_s:g})")

    def alive(self) -> list[str]:
        """Names of the threads that still run."""
        return self._group.alive()

    def run_inline(self, streams: Sequence[Stream]) -> None:
        """Everything in the calling thread, streams taking turns frame by frame: the reference for the threaded run."""
        readers: deque[Generator[None]] = deque()

        def offer(key: StreamKey, items: Sequence[Item]) -> list[Item]:
            while not self._scheduler.has_space(key, items[0].spec):  # nobody else could make some
                self._runner.serve(self._scheduler.poll(partial=True))
            return self._scheduler.offer(key, items)

        self._wire(
            None,
            lambda outlet, event: outlet.take(event, self._now),
            lambda stream: readers.append(self._read(stream)),
            offer,
        )
        open_all(self._outlets)
        try:
            self.detector.warm(self._batch_sizes())
            self.ledger.begin(self._now())
            for stream in streams:
                self.add(stream)
            self.finish()
            with suppress(Closed):
                while True:
                    if readers:
                        reader = readers.popleft()
                        with suppress(StopIteration):
                            next(reader)
                            readers.append(reader)
                    while self._runner.serve(self._scheduler.poll()):
                        pass
        except BaseException as error:
            self.failure = error
            raise
        finally:
            for reader in readers:
                reader.close()
            for outlet in self._outlets:
                outlet.close()
            self._settle()

    def _batch_sizes(self) -> list[int]:
        largest = self.options.batch_size
        return [largest] if self.options.fixed_batch else list(range(1, largest + 1))

    def _open_more(self) -> None:
        """Start the readers that may start; after the last stream, send the workers home."""
        while (stream := self._roster.next()) is not None:
            try:
                self._start_reader(stream)
            except RuntimeError as error:  # the system gives no more threads
                stream.account.failed(str(error))
                log.error("%s: %s", stream.account.name, error)
                self._roster.closed(stream)
        if self._roster.done:
            self._scheduler.finish()

    def _read_in_thread(self, stream: Stream) -> None:
        def read() -> None:
            for _ in self._read(stream):
                pass

        self._start(f"read:{stream.key.name}", read)

    def _start(self, name: str, body: Callable[[], None]) -> None:
        """Run a loop in a thread; when it dies, end everything and keep the cause for ``join``."""

        def guarded() -> None:
            try:
                body()
            except Closed:
                pass
            except BaseException as error:  # noqa: BLE001 - the thread's last word, raised again by join
                self.failure = self.failure or error
                self.abort()

        self._group.start(name, guarded)

    def _settle(self) -> None:
        self.ledger.end(self._now())
        if self.failure is not None or self._scheduler.aborted:
            self.ledger.account_for_shutdown()
        if self.failure is not None:
            raise self.failure
        unbalanced = self.ledger.unbalanced()
        if unbalanced:
            raise PipelineError(f"frames unaccounted for, please report this fault: {unbalanced}")
