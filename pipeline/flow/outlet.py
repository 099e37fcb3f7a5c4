# SPDX-License-Identifier: Apache-2.0
"""The bounded outlet between the follow loop and one sink, and the delivery that several outlets share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.errors import NoRoom, SinkError
from pipeline.events import StreamEvent
from pipeline.flow.stream import FlowOptions
from pipeline.frame import Result, StreamInfo
from pipeline.ledger import SinkLedger, SinkState, StreamLedger, Write
from pipeline.protocols import LimitedSink, PlacedSink, Sink
from pipeline.threads import Channel, Closed, Policy
from pipeline.timing import Mark

log = logging.getLogger("pipeline")

NOTICES_WAITING: Final = 1024
"""Events that may wait for one sink: days of a camera that comes and goes beside a sink that hangs."""
NO_ROOM: Final = "the disk is full, and no output is whole any more: make room and run it again"
BEHIND: Final = "writes more slowly than results come, or not at all: the oldest that wait for it are lost"


@dataclass(frozen=True, slots=True)
class Began:
    """A stream opened; its results follow."""

    info: StreamInfo


class Ended:
    """A stream's last result has been delivered. ``closed`` is called once every sink has closed the stream."""

    __slots__ = ("_countdown", "stream")

    def __init__(self, stream: str, outlets: int, closed: Callable[[], None]) -> None:
        self.stream = stream
        self._countdown = Countdown(outlets, closed)

    def done(self) -> None:
        """One sink has closed the stream, or never will."""
        self._countdown.down()


class Delivery:
    """One result on its way to all sinks. The frame is finished when the last of them is done with it.

    ``unfinished`` counts it until then, where somebody waits for the last frame of a stream.
    """

    __slots__ = ("_countdown", "result")

    def __init__(
        self, result: Result, account: StreamLedger, outlets: int, unfinished: Countdown | None = None
    ) -> None:
        self.result = result
        if unfinished is not None:
            unfinished.up()

        def finished() -> None:
            account.finished(result.trace)
            if unfinished is not None:
                unfinished.down()

        self._countdown = Countdown(outlets, finished)

    def done(self, began_ns: int = 0, ended_ns: int = 0) -> None:
        """One sink is done with it; 0 for a sink that lost it: that one is no part of the frame's way."""

        def mark() -> None:
            trace = self.result.trace
            if ended_ns > trace[Mark.DONE]:
                trace[Mark.SINK], trace[Mark.DONE] = began_ns, ended_ns

        self._countdown.down(mark)


class Countdown:
    """Calls ``finished`` when as many have come down as were announced."""

    __slots__ = ("_finished", "_lock", "_remaining")

    def __init__(self, count: int, finished: Callable[[], None]) -> None:
        self._remaining = count
        self._finished = finished
        self._lock = threading.Lock()
        if not count:
            finished()

    def up(self) -> None:
        """One more is announced, before the last one came down."""
        with self._lock:
            self._remaining += 1

    def down(self, first: Callable[[], None] = lambda: None) -> None:
        """One has come down; ``first`` is done before, by one thread at a time."""
        with self._lock:
            first()
            self._remaining -= 1
            last = not self._remaining
        if last:
            self._finished()


@dataclass(frozen=True, slots=True)
class Notice:
    """Something happened to a stream."""

    event: StreamEvent


Event = Began | Delivery | Ended | Notice


class Room:
    """Which of so many sinks have lost nothing to a full disk. Threads may share it."""

    def __init__(self, sinks: int) -> None:
        self._sinks = sinks
        self._without: set[str] = set()

    def is_gone(self, sink: str) -> bool:
        """A sink found none: whether all of them have by now."""
        self._without.add(sink)
        return len(self._without) == self._sinks


class Outlet:
    """A sink, its account, and the bounded channel in front of it.

    Args:
        sink: not open yet.
        capacity: events that wait in the channel.
        policy: what happens where it is full: whoever publishes waits, or the oldest result is lost to this sink.
        required: the first result that the sink cannot keep ends the run.
        room: the run ends when there is none left for any sink; None: it goes on.
    """

    def __init__(
        self, sink: Sink, capacity: int, policy: Policy, *, required: bool = False, room: Room | None = None
    ) -> None:
        self.sink = sink
        self._room = room
        self.required = required
        self.account = SinkLedger(sink.name, path=sink.path if isinstance(sink, PlacedSink) else "")
        if isinstance(sink, LimitedSink):
            self.account.removed = lambda: sink.segments_removed
        self._lock = threading.Lock()  # of what is lost and how it is: both ends of the channel may say so
        self._told_as = ""
        self._behind = False  # it lost results to overflow, and has not caught up since
        self._tells = getattr(sink, "event", None) if getattr(sink, "wants_events", False) else None
        # Only results may be pushed out: a lost Began or Ended would leave files open or never made.
        self.channel: Channel[Event] = Channel(capacity, policy, spare=lambda event: isinstance(event, Delivery))

    def put(self, event: Event) -> None:
        """Hand an event to the sink's thread; what is pushed out is counted as lost by overflow.

        Raises Closed when the channel was aborted; a result then counts as lost by the shutdown. Its frame was never
        published, so it is no end of the frame's way.
        """
        if not self._receives(event):
            return
        if isinstance(event, Notice):
            self._make_room()
        try:
            pushed_out = self.channel.put(event)
        except Closed:
            if isinstance(event, Delivery):
                self._count_lost("shutdown")
            elif isinstance(event, Notice):
                self._lose_notice()
            raise
        if isinstance(pushed_out, Delivery):
            self.lose(pushed_out, "overflow")
            self._fall_behind()

    def take(self, event: Event, now: Callable[[], int]) -> None:
        """Hand an event to the sink here and now (the inline run)."""
        if self._receives(event):
            self.write(event, now)

    def _receives(self, event: Event) -> bool:
        """Count what is meant for the sink; False for events that it does not want."""
        if isinstance(event, Notice):
            if self._tells is None:
                return False
            self.account.events_received += 1
        elif isinstance(event, Delivery):
            self.account.received += 1
        return True

    def _make_room(self) -> None:
        """Results do not push events out, but events are bounded as well: the oldest gives way."""
        account = self.account
        waiting = account.events_received - account.events_written - account.events_lost
        if waiting > NOTICES_WAITING and self.channel.take_out(lambda event: isinstance(event, Notice)):
            self._lose_notice()

    def _lose_notice(self) -> None:
        with self._lock:
            self.account.events_lost += 1

    def write(self, event: Event, now: Callable[[], int]) -> None:
        """Give one event to the sink, in the sink's thread.

        A sink that cannot keep a result (SinkError) is degraded and goes on with the next one; a sink that breaks in
        any other way is detached. Neither stops anything else, unless it is required, or the last one that had room:
        then SinkError is raised.
        """
        if self.account.state == "failed":
            self._pass(event, "failed")
            return
        began_ns = now()
        try:
            match event:
                case Delivery():
                    self.sink.write(event.result)
                case Began():
                    self.sink.begin(event.info)
                case Ended():
                    self.sink.end(event.stream)
                case Notice() if self._tells is not None:
                    self._tells(event.event)
        except SinkError as error:
            self._fail(event, "write_error", "degraded", error)
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; it costs this sink only
            self._fail(event, "failed", "failed", error)
        else:
            if isinstance(event, Ended):
                self.account.busy_ns += now() - began_ns
                event.done()
            elif isinstance(event, Notice):
                self.account.events_written += 1
            elif isinstance(event, Delivery):
                self.account.written += 1
                ended_ns = now()
                self.account.busy_ns += ended_ns - began_ns
                self.account.writes.add(Write(began_ns, ended_ns, event.result.stream, event.result.frame))
                event.done(began_ns, ended_ns)
            if self.account.state == "degraded" and self._is_over(event):
                self._recover()

    def close(self) -> None:
        """Take nothing more, account for what is left in the channel, and close the sink."""
        self.channel.abort()  # before: what came after that would be nobody's
        for event in self.channel.drain():
            self._pass(event, "shutdown")
        try:
            self.sink.close()
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything
            self.account.state = "ok"  # so that this last word is said
            self._fail(None, "failed", "failed", error)

    def _fail(self, event: Event | None, reason: str, state: SinkState, error: Exception) -> None:
        text = str(error) or type(error).__name__
        with self._lock:
            said = self.account.state == state and not self._behind  # once, until it has recovered
            self.account.state, self.account.error, self._behind = state, text, False
        if not said:
            unforeseen = None if isinstance(error, SinkError) else error
            self._told_as = f"sink {self.sink.name}: {error}"
            extra = {"about": f"sink {self.sink.name}", "same": self._told_as}
            log.error("sink %s: %s", self.sink.name, text, exc_info=unforeseen, extra=extra)
        if not isinstance(event, (Delivery, Notice)):
            self.account.faults += 1
        self._pass(event, reason)
        if event is None:  # at the close the run is over anyway
            return
        if self.required:
            raise SinkError(f"sink {self.sink.name} is required and cannot keep a result: {error}") from error
        if self._room is not None and isinstance(error, NoRoom) and self._room.is_gone(self.sink.name):
            raise NoRoom(NO_ROOM) from error

    def _fall_behind(self) -> None:
        """A sink that is slow, or that hangs in a write, raises nothing: whoever publishes has to say it."""
        with self._lock:
            if self._behind or self.account.state != "ok":
                return
            self._behind = True
            self.account.state, self.account.error = "degraded", BEHIND
            self._told_as = f"sink {self.sink.name}: {BEHIND}"
        extra = {"about": f"sink {self.sink.name}", "same": self._told_as}
        log.error("sink %s: %s", self.sink.name, BEHIND, extra=extra)

    def _is_over(self, kept: Event) -> bool:
        """Whether that it kept this event shows that what it is degraded for is over."""
        return not len(self.channel) if self._behind else isinstance(kept, Delivery)

    def _recover(self) -> None:
        with self._lock:
            self._behind = False
            self.account.state = "ok"
        name = self.sink.name
        extra = {"about": f"sink {name}", "same": f"sink {name}: keeps results", "ends": self._told_as}
        log.warning("sink %s keeps results again, lost so far: %d", name, self.account.lost.total(), extra=extra)

    def _pass(self, event: Event | None, reason: str) -> None:
        """The sink will not hear of this event."""
        if isinstance(event, Delivery):
            self.lose(event, reason)
        elif isinstance(event, Notice):
            self._lose_notice()
        elif isinstance(event, Ended):
            event.done()

    def lose(self, delivery: Delivery, reason: str) -> None:
        """Account for a result that this sink will not keep."""
        self._count_lost(reason)
        delivery.done()

    def _count_lost(self, reason: str) -> None:
        with self._lock:
            self.account.lost[reason] += 1


def make_outlets(sinks: Sequence[Sink], options: FlowOptions) -> list[Outlet]:
    """One for each sink."""
    room = Room(len(sinks)) if options.ends_without_room else None
    return [
        Outlet(
            sink,
            options.outlet_capacity,
            options.outlet_policy,
            required=sink.name in options.required_sinks,
            room=room,
        )
        for sink in sinks
    ]


def open_all(outlets: Sequence[Outlet]) -> None:
    """Open their sinks; when one refuses, close those before it and raise what it raised."""
    for number, outlet in enumerate(outlets):
        try:
            outlet.sink.open()
        except BaseException:
            for earlier in outlets[:number]:
                earlier.close()
            raise
