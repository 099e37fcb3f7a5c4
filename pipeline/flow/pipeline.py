# SPDX-License-Identifier: Apache-2.0
"""The route of a frame, on one page: four loops, and the Pipeline that owns their threads.

::

    read (one per open stream)   source -> stages -> scheduler
    detect (K workers)           batch -> detector -> outcomes
    follow (one)                 joins parts, restores each stream's order, publishes
    write (one per sink)         outlet -> sink

What each of them does with a frame is in :mod:`reading`, :mod:`inference`, :mod:`publishing` and :mod:`outlet`.

The detector can be swapped meanwhile: each model has a scheduler and workers of its own (:mod:`deployment`),
and a reader changes from one model to the next between two frames (:mod:`lineup`). A reader whose stream
loses frames leaves the stages to the worker that takes the frame (:mod:`preparing`).

Every frame that a reader keeps gets the stream's next sequence number and ends in exactly one outcome: detections,
nobody looked, or dropped for a reason. Stopping flows the way frames flow: readers end their lanes, the scheduler sends
the workers home, the last worker ends ``follow``, ``follow`` ends the sinks. Whoever consumes a meeting point aborts
everything when it fails, so nobody waits for a thread that is gone.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from pipeline.complaints import Complaints
from pipeline.errors import ModelHung, PipelineError
from pipeline.flow.deployment import Deployment
from pipeline.flow.inference import UnderWay
from pipeline.flow.lineup import Lineup
from pipeline.flow.outlet import Event, Outlet, make_outlets, open_all
from pipeline.flow.preparing import Preparer
from pipeline.flow.publishing import After, Inbound, Publisher, Told, tell
from pipeline.flow.reading import Reader
from pipeline.flow.roster import Roster
from pipeline.flow.stream import FlowOptions, Pictures, Stream
from pipeline.flow.turns import Drive, Readers, take_turns
from pipeline.frame.buffers import BufferPool
from pipeline.ledger import Ledger
from pipeline.protocols import Detector, Sink
from pipeline.threads import Channel, Closed, Put, WorkerGroup
from pipeline.timing import SYSTEM, Clock

log = logging.getLogger("pipeline")


class Pipeline:
    """Many streams through one detector into several sinks.

    ``start``, then ``add`` streams, ``finish`` when no more will be added, and ``join``. ``run_inline`` drives the same
    bodies in the calling thread.

    Attributes:
        ledger: every count and time, also while it runs.
        models: the detector in use, and others that are to take its place (:mod:`lineup`).
        failure: what killed a loop, or None.
    """

    def __init__(
        self, detector: Detector, sinks: Sequence[Sink], options: FlowOptions, *, clock: Clock = SYSTEM
    ) -> None:
        self.options = options
        self.ledger = Ledger()
        self.failure: BaseException | None = None
        self._clock, self._now = clock, clock.now_ns
        # A handful is enough: readers and workers may run ahead of `follow` only as far as this.
        self._inbox: Channel[Inbound] = Channel(4 * options.batch_size + 16)
        self._outlets = make_outlets(sinks, options)
        self.ledger.sinks = {outlet.sink.name: outlet.account for outlet in self._outlets}
        self._pictures = Pictures(any(sink.wants_pictures for sink in sinks), options.tap)
        self._complaints = Complaints(log, clock)
        self._roster = Roster(options.parallel)
        self._group = WorkerGroup()
        self._follow_now: Put[Inbound] | None = None  # who takes what is emitted here and now; None: a thread does
        self._readers: Readers = deque()  # that are no threads
        outlets = len(self._outlets)
        self._publisher = Publisher(self._deliver, outlets, self.ledger, self._now, self._complaints, self._pictures)
        preparer = Preparer(self._emit, self._now, self._pictures)
        self.models = Lineup(detector, options, self._deployment, preparer, self._inbox.close)
        self._reader = Reader(self.models, preparer, self._emit, self._now, self._closed)

    def _deployment(self, detector: Detector, options: FlowOptions, number: int) -> Deployment:
        model = Deployment(
            detector, options, self.ledger, self._emit, self._clock, self._complaints, self._work, number
        )
        if self._inline:
            model.do_without_workers()
        return model

    @property
    def detector(self) -> Detector:
        """The one in use."""
        return self.models.current.detector

    @property
    def buffers(self) -> BufferPool:
        """The memory of its inputs."""
        return self.models.current.buffers

    # What stands between the loops: channels and threads, or nothing (``run_inline``)

    @property
    def _inline(self) -> bool:
        return self._follow_now is not None

    def _emit(self, *events: Inbound) -> None:
        (self._follow_now or self._inbox.put_all)(*events)

    def _tell(self, told: Told) -> None:
        (self._follow_now or self._inbox.put_now)(told)

    def _deliver(self, event: Event) -> None:
        inline = self._inline
        for outlet in self._outlets:
            if inline:
                outlet.take(event, self._now)
            else:
                outlet.put(event)

    def _start_reader(self, stream: Stream) -> None:
        if self._inline:
            self._readers.append((stream, self._reader.read(stream)))
        else:
            self._start(f"read:{stream.key.name}", partial(self._read, stream))

    # The four loops

    def _read(self, stream: Stream) -> None:
        """source -> stages -> scheduler, a frame at each step."""
        for _ in self._reader.read(stream):
            pass

    def _detect(self, model: Deployment) -> None:
        """batch -> detector -> outcomes, with up to ``detector.depth`` batches under way."""
        scheduler, runner, depth = model.scheduler, model.runner, model.detector.depth
        under_way: deque[UnderWay] = deque()
        try:
            while True:
                batch = scheduler.poll() if under_way else scheduler.take()
                if batch is not None:
                    under_way.append(runner.submit(batch))
                if batch is None or len(under_way) >= depth:
                    runner.complete(under_way.popleft())
        except Closed:
            for batch_under_way in under_way:
                runner.complete(batch_under_way)
        finally:
            self.models.left(model)

    def _follow(self) -> None:
        """Outcomes -> in order -> published, in its time."""
        try:
            while True:
                self._publisher.handle(*self._inbox.get_all(self._publisher.patience_s))
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

    # Life

    def start(self) -> None:
        """Open the sinks and warm the detector in the threads that will run it; raises SinkError or ModelError."""
        open_all(self._outlets)
        started = False
        try:
            first = self.models.current
            first.warm()
            self._group.adopt(first.threads)
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
            first.begin()

    def add(self, stream: Stream) -> None:
        """Take a stream in; it opens as soon as fewer than ``parallel`` are open, or never after a stop."""
        self.ledger.add(stream.account)
        stream.account.life.listen(partial(tell, stream, self._tell))
        self._roster.add(stream)
        self._open_more()

    def remove(self, name: str) -> None:
        """Ask one stream to stop; the frames that it has queued are still served."""
        self._roster.stop(name)

    def pause(self, name: str, paused: bool) -> bool:
        """Hold one stream or let it go on, see :meth:`Roster.pause`."""
        return self._roster.pause(name, paused)

    def wake(self) -> None:
        """Have cameras that turned us away tried again at once, see :meth:`Roster.wake`."""
        self._roster.wake()

    def waiting(self) -> dict[str, int]:
        """Items that wait for the detector, by the name of the stream."""
        return self.models.waiting()

    def abandon(self, name: str) -> bool:
        """Give up the reader of a stream that hangs in native code: the stream ends without it, as failed, and its
        thread is left behind. False where there is none, or it is not its source that it waits for."""
        stream = self._roster.find(name)
        if stream is None or not stream.give_up():
            return False
        stream.stop.set()
        stream.account.failed("its reader hung in native code and was left behind", "hung")
        self._start(f"end:{name}", partial(self._reader.close, stream))  # it may wait for `follow`; the caller must not
        return True

    def switch(self, model: Deployment) -> Deployment | None:
        """Give all frames to another model, see :meth:`Lineup.switch`."""
        before = self.models.switch(model, self._roster.open)
        if before is not None:
            self._group.adopt(model.threads)
        return before

    def finish(self) -> None:
        """No more streams will be added: once all have ended, everything drains and ends."""
        self._roster.finish()
        self._open_more()

    def stop(self) -> None:
        """Ask all streams to stop. What they have queued is served and published at once, then everything ends."""
        self._roster.finish()
        self._roster.stop()
        self._publisher.hurry()
        self._inbox.wake()
        self._open_more()

    def abort(self) -> None:
        """Stop now: what is under way is dropped and counted as ``shutdown``."""
        self.stop()
        self.models.abort()
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
        since_s = self.models.longest_ns() / 1e9
        if since_s > limit_s:
            self.abort()
            raise ModelHung(f"the model has not answered for {since_s:.0f} s (model.timeout_s is {limit_s:g})")

    def alive(self) -> list[str]:
        """Names of the threads that still run."""
        return self._group.alive()

    def run_inline(self, streams: Sequence[Stream], drive: Drive = take_turns, after: After | None = None) -> None:
        """Everything in the calling thread, the reference for the threaded run. ``drive`` says who goes when: streams
        take turns, or as a simulation has it. ``after`` says what publishing waits for; None: for nothing."""
        self._follow_now = after(self._publisher) if after else self._publisher.handle
        if after is None:
            self._publisher.hurry()
        self.models.current.do_without_workers()
        open_all(self._outlets)
        try:
            with suppress(Closed):  # it was given up, and no stream opens any more
                self.models.current.warm()
            self.ledger.begin(self._now())
            for stream in streams:
                self.add(stream)
            self.finish()
            with suppress(Closed):
                drive(self._readers, self.models)
        except BaseException as error:
            self.failure = error
            raise
        finally:
            for _, reader in self._readers:
                reader.close()
            for outlet in self._outlets:
                outlet.close()
            self._settle()

    def _open_more(self) -> None:
        """Start the readers that may start; after the last stream, send the workers home."""
        while (stream := self._roster.next()) is not None:
            try:
                self._start_reader(stream)
            except RuntimeError as error:  # the system gives no more threads
                stream.account.failed(str(error))
                log.error("%s: %s", stream.account.name, error, extra={"stream": stream.account.name})
                self._roster.closed(stream)
        if self._roster.done:
            self.models.finish()

    def _closed(self, stream: Stream) -> None:
        self._roster.closed(stream)
        self._open_more()

    def _start(self, name: str, body: Callable[[], None]) -> None:
        self._group.start(name, partial(self._guarded, body))

    def _work(self, model: Deployment) -> None:
        self._guarded(partial(self._detect, model))

    def _guarded(self, body: Callable[[], None]) -> None:
        """A loop; when it dies, everything ends, and ``join`` raises the cause."""
        try:
            body()
        except Closed:
            pass
        except BaseException as error:  # noqa: BLE001 - the thread's last word, raised again by join
            self.failure = self.failure or error
            self.abort()

    def _settle(self) -> None:
        self.ledger.end(self._now())
        if self.failure is not None or self.models.aborted:
            self.ledger.account_for_shutdown()
        if self.failure is not None:
            raise self.failure
        unbalanced = self.ledger.unbalanced()
        if unbalanced:
            raise PipelineError(f"frames unaccounted for, please report this fault: {unbalanced}")
