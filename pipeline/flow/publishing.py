# SPDX-License-Identifier: Apache-2.0
"""The body of the follow loop: outcomes go in, results come out, in the order of each stream."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from pipeline.complaints import Complaints
from pipeline.events import StreamEvent
from pipeline.flow.ordering import Joined, StreamOrder
from pipeline.flow.outlet import Began, Countdown, Delivery, Ended, Event, Notice
from pipeline.flow.playout import Playout
from pipeline.flow.stream import TO_SINKS, Pictures, Stream
from pipeline.frame import Detections, DropReason, Frame, Outcome, Result, StreamInfo, StreamKey
from pipeline.ledger import Ledger
from pipeline.threads import Closed, Put
from pipeline.timing import Mark


@dataclass(frozen=True, slots=True)
class Opened:
    """A reader opened its source; its outcomes follow."""

    stream: Stream
    info: StreamInfo


@dataclass(frozen=True, slots=True)
class Closing:
    """A reader ended after giving out ``frames`` sequence numbers."""

    stream: Stream
    frames: int


@dataclass(frozen=True, slots=True)
class Told:
    """Something happened to a stream, after its reader had given out ``frames`` sequence numbers."""

    stream: Stream
    event: StreamEvent
    frames: int


Inbound = Outcome | Opened | Closing | Told
"""What the follow loop is sent."""


def tell(stream: Stream, put: Callable[[Told], object], event: StreamEvent) -> None:
    """Send an event the way of the frames, so that it keeps its place among them. After the end nobody is told."""
    with suppress(Closed):
        put(Told(stream, event, stream.frames))


@dataclass(slots=True)
class _Following:
    stream: Stream
    unfinished: Countdown  # results on their way to sinks, and 1 until all sinks have closed the stream
    order: StreamOrder = field(default_factory=StreamOrder)
    told: deque[Told] = field(default_factory=deque)  # waiting for the frames before them
    dropped_before: int = 0


class Publisher:
    """Per-stream state lives here: order, follower, losses, and what is held until its time. Used by one thread.

    What has to leave in a stream's order goes through its playout line: results, losses, events, the end.
    """

    def __init__(
        self,
        deliver: Callable[[Event], None],
        outlets: int,
        ledger: Ledger,
        now: Callable[[], int],
        complaints: Complaints,
        pictures: Pictures = TO_SINKS,
    ) -> None:
        """``pictures``: who is to see results with their pictures."""
        self._deliver = deliver
        self._outlets = outlets
        self._ledger = ledger
        self._now = now
        self._complaints = complaints
        self._pictures = pictures
        self._following: dict[StreamKey, _Following] = {}
        self._playout = Playout(now)

    def handle(self, *events: Inbound) -> None:
        """Take events, one after the other, and publish what is ready and due."""
        for event in events:
            self._playout.release()  # a follower may take its time
            self._take(event)
        self._playout.release()

    def hurry(self) -> None:
        """Have nothing wait for its time from the next :meth:`handle` on. From any thread."""
        self._playout.hurry()

    @property
    def due_ns(self) -> int | None:
        """When something is to be published though nothing comes, see :attr:`Playout.due_ns`."""
        return self._playout.due_ns

    def patience_s(self) -> float | None:
        """How long that is from now, in seconds."""
        due_ns = self.due_ns
        return None if due_ns is None else (due_ns - self._now()) / 1e9

    def _take(self, event: Inbound) -> None:
        if isinstance(event, Told):
            waiting = self._following.get(event.stream.key)
            if waiting is None:  # it has not opened yet, or has ended
                self._notify(event)
                return
            waiting.told.append(event)
            self._tell(waiting)
            return
        if isinstance(event, Opened):
            settled = Countdown(1, partial(self._ledger.settle, event.stream.account))
            self._following[event.stream.key] = _Following(event.stream, settled)
            self._deliver(Began(event.info))
            return
        key = event.frame.stream if isinstance(event, Outcome) else event.stream.key
        following = self._following[key]
        if isinstance(event, Outcome):
            for joined in following.order.add(event):
                self._publish(following, joined)
                if following.told:
                    self._tell(following)
        else:
            following.order.end(event.frames)
            if event.stream.stop.is_set():
                self._playout.flush(key)
        if following.order.complete:
            del self._following[key]
            # A sink may close the stream while a result that gave way before it is still being accounted for.
            closed = following.unfinished.down
            self._playout.add(key, 0, lambda: self._deliver(Ended(key.name, self._outlets, closed)))

    def _tell(self, following: _Following) -> None:
        """Deliver the events whose turn has come."""
        told = following.told
        while told and told[0].frames <= following.order.released:
            self._notify(told.popleft())

    def _notify(self, told: Told) -> None:
        self._playout.add(told.stream.key, 0, partial(self._deliver, Notice(told.event)))

    def _publish(self, following: _Following, joined: Joined) -> None:
        """Make a result of a frame, and have it leave when it is due."""
        frame, stream = joined.frame, following.stream
        detections = joined.detections
        if frame.observer is not None:
            frame.observer(detections, joined.dropped)
        if joined.dropped is not None:
            if joined.dropped == "inference_error":
                stream.account.life.fails(joined.why, "inference")
            elif joined.dropped == "stage_error":
                text = f"frame {frame.index} is dropped: {joined.why}"
                self._complaints.say(logging.WARNING, frame.stream.name, "stage", text)
                stream.account.life.fails(joined.why)
            self._lose(following, frame, joined.dropped)
            return
        frame.trace[Mark.FOLLOW] = self._now()
        if stream.follower is not None:
            try:
                detections = stream.follower.follow(frame, detections)
            except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; it costs this frame only
                text = f"the follower failed: {error!r}"
                self._complaints.say(logging.ERROR, frame.stream.name, "follower", f"frame {frame.index}: {text}")
                stream.account.life.fails(text)
                frame.trace[Mark.FOLLOWED] = self._now()
                self._lose(following, frame, "stage_error")
                return
        frame.trace[Mark.FOLLOWED] = self._now()
        result = Result(
            stream=frame.stream.name,
            frame=frame.index,
            pts=frame.pts_s,
            wall_ns=frame.wall_ns,
            width=frame.width,
            height=frame.height,
            detections=Detections.empty() if detections is None else detections,
            labels=frame.labels,
            epoch=frame.epoch,
            dropped_before=following.dropped_before,
            picture=frame.picture,
            trace=frame.trace,
        )
        following.dropped_before = 0
        if result.picture is not None and not self._pictures.kept(result.stream):
            result = replace(result, picture=None)  # it is not held for nobody
        due_ns = self._due_ns(stream, frame)
        self._playout.add(stream.key, due_ns, partial(self._leave, following, result, held=bool(due_ns)))

    @staticmethod
    def _due_ns(stream: Stream, frame: Frame) -> int:
        """When its result is to leave; 0: as soon as may be."""
        if frame.place_ns is None or stream.stop.is_set():
            return 0
        return stream.account.playout.due_ns(frame.place_ns, frame.trace[Mark.FOLLOWED])

    def _leave(self, following: _Following, result: Result, *, held: bool) -> None:
        if held:
            result.trace[Mark.PLAYED] = self._now()
        if result.picture is not None:
            if self._pictures.tap.wants(result.stream):
                self._pictures.tap.show(result)
            if not self._pictures.sinks:  # many results may wait for a sink, and none of them asked for pictures
                result = replace(result, picture=None)
        # Delivered before it counts as processed: who sees balanced accounts may rely on the outlets having it.
        stream = following.stream
        self._deliver(Delivery(result, stream.account, self._outlets, following.unfinished))
        stream.account.published(result.trace, len(result.detections))
        stream.witness(result.trace, None)

    def _lose(self, following: _Following, frame: Frame, reason: DropReason) -> None:
        """Its journey has ended already, where it was lost; it is counted after the frames before it."""
        following.dropped_before += 1
        self._playout.add(frame.stream, 0, partial(_lost, following.stream, frame.trace, reason))


After = Callable[[Publisher], Put[Inbound]]
"""What publishing waits for: it is given the publisher, and returns what is to be called with events instead."""


def _lost(stream: Stream, trace: list[int], reason: DropReason) -> None:
    stream.account.lost(reason, trace)
    stream.witness(trace, reason)
