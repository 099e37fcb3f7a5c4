# SPDX-License-Identifier: Apache-2.0
"""A source around a source: connects again, for ever, with growing pauses. A failure is told, waited out, retried."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

from pipeline.errors import Cause, SourceError, SourceInvalid
from pipeline.events import Condition, StreamState, state_in_words
from pipeline.figures import duration
from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.protocols import Source
from pipeline.sources.gate import Gate
from pipeline.sources.joining import Continuation
from pipeline.sources.stillness import Stillness
from pipeline.threads import StopFlag

log = logging.getLogger(__name__)

SLOW_CAUSES: Final = frozenset({"auth", "not_found"})
"""Causes that only a person cures: tried again in the slow lane, so that no account is locked and no log flooded."""
HEALTHY_NS: Final = 10_000_000_000
"""A connection that has delivered frames for this long was a good one."""

OnState = Callable[[Condition], None]
"""Called by the reading thread; the states are ``connecting, live, backoff, auth_failed, failed``."""


class Reconnecting:
    """Keeps a feed alive. It never gives up and ends only by stop.

    - The n-th pause in a row is drawn from [0, min(max_backoff_s, first_backoff_s * 2**n)], "full jitter", so that
      cameras that failed together do not return together (M. Brooker, Exponential Backoff And Jitter, 2015).
    - Pauses start small again once a connection delivered frames for :data:`HEALTHY_NS`.
    - Wrong credentials, a missing path and what is not a usable video (SourceInvalid: a camera in the middle of a
      restart or of a change of its settings looks like that too) wait ``slow_lane_s``; their states are ``auth_failed``
      for the first and ``failed`` for the others. :meth:`wake` ends that wait.
    - Index and pts go on over a reconnect; the gap in pts is the time that really passed; the epoch grows.

    Each change between live and one of the others is logged once, however often the camera is tried in between, and
    so is another cause of the same outage.

    Args:
        make_source: makes the source of one connection.
        name: of the stream, for the log.
        on_state: see :data:`OnState`.
        gate: bounds how many streams connect at the same time; shared between them.
        jitter: where the pauses are drawn from.
        knock: asks whether anybody answers, and raises SourceError where nobody does; called before a turn at the gate,
            where the camera did not answer in time before. None: nobody is asked.
        release: lets go of what connections share; called by :meth:`close`, after which it may be needed again.

    Attributes:
        counters: sums over all connections.
    """

    def __init__(
        self,
        make_source: Callable[[], Source],
        *,
        name: str = "feed",
        on_state: OnState = lambda condition: None,
        first_backoff_s: float = 0.5,
        max_backoff_s: float = 30.0,
        slow_lane_s: float = 60.0,
        gate: Gate | None = None,
        jitter: random.Random | None = None,
        release: Callable[[], None] = lambda: None,
        knock: Callable[[], None] | None = None,
    ) -> None:
        self._make_source = make_source
        self._name = name
        self._on_state = on_state
        self._told = self._told_as = ""
        self._told_cause: Cause | None = None
        self._nap: StopFlag | None = None
        self._first_backoff_s = first_backoff_s
        self._max_backoff_s = max_backoff_s
        self._slow_lane_s = slow_lane_s
        self._gate = gate
        self._release = release
        self._knock = knock
        self._unanswered = False
        self._jitter = jitter or random.Random()
        self._whole = Continuation()
        self.counters: SourceCounters = self._whole.counters
        self._stillness = Stillness(self.counters)
        self._source: Source | None = None
        self._stop = StopFlag()
        self._lost_by: Cause | None = None
        self._failures = 0
        self._attempts = 0  # since the last frame
        self._info: StreamInfo | None = None  # of this connection
        self._first_frame_ns: int | None = None

    def open(self, stop: StopFlag) -> StreamInfo:
        """Connect, however long it takes. Returns an empty StreamInfo if stop comes first."""
        self._stop = stop
        return self._connect() or StreamInfo("", live=True)

    def read(self) -> Capture | None:
        """The next frame, over any number of connections; None once stop is set."""
        while not self._stop.is_set():
            source = self._source
            if source is None:
                self._connect()
                continue
            try:
                capture = source.read()
            except SourceError as error:
                self._fail(error)
                continue
            if capture is None:
                if not self._stop.is_set():
                    self._fail(SourceError("the feed ended", cause="eof"))
                continue
            if self._first_frame_ns is None:
                self._first_frame_ns = capture.decoded_ns
                self._attempts = 0
                self._tell(Condition("live", info=self._info))
            elif self._failures and capture.decoded_ns - self._first_frame_ns >= HEALTHY_NS:
                self._failures = 0
            self._stillness.look(capture)
            return self._whole.carry(capture)
        return None

    @property
    def truncation(self) -> str | None:
        """None: a feed has no length."""
        return None

    def close(self) -> None:
        """Hang up for now, or for good; may be called twice."""
        self._hang_up()
        self._release()

    def _hang_up(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _connect(self) -> StreamInfo | None:
        """Try until one connection opens; None once stop is set."""
        while not self._stop.is_set():
            try:
                source = self._make_source()
            except SourceError as error:
                self._fail(error)
                continue
            try:
                info = self._open(source)
            except SourceError as error:
                source.close()
                self._fail(error)
                continue
            except BaseException:
                source.close()
                raise
            if info is None:
                source.close()
                return None
            self._whole.begin(source)
            self._source, self._info = source, info
            self._first_frame_ns = None
            if self._lost_by is not None:
                self.counters.reconnects += 1
                by_cause = self.counters.reconnects_by_cause
                by_cause[self._lost_by] = by_cause.get(self._lost_by, 0) + 1
                self._lost_by = None
            return info
        return None

    def _open(self, source: Source) -> StreamInfo | None:
        """In its turn; until then its state is what it was. None where stop came first."""
        self._attempts += 1
        if self._unanswered and self._knock is not None:
            self._tell(Condition("connecting", attempts=self._attempts))
            self._knock()
        with nullcontext(True) if self._gate is None else self._gate.turn(self._stop) as may:
            if not may:
                return None
            self._tell(Condition("connecting", attempts=self._attempts))
            return source.open(self._stop)

    def _fail(self, error: SourceError) -> None:
        """Hang up, tell, and pause."""
        if self._source is not None:
            self._lost_by = error.cause
            self._hang_up()
        self._unanswered = error.cause == "timeout"
        if error.cause in SLOW_CAUSES or isinstance(error, SourceInvalid):
            state: StreamState = "auth_failed" if error.cause == "auth" else "failed"
            pause = self._slow_lane_s
        else:
            state = "backoff"
            doublings = min(self._failures, 32)
            pause = self._jitter.uniform(0.0, min(self._max_backoff_s, self._first_backoff_s * 2**doublings))
            self._failures += 1
        if not self._stop.is_set():
            self._tell(Condition(state, str(error), error.cause, self._attempts, pause))
            self._pause(pause, slow=state != "backoff")

    def _pause(self, pause_s: float, *, slow: bool) -> None:
        """Wait for the next try; in the slow lane also for somebody who says that it is worth one."""
        nap = self._nap = self._stop.child() if slow else None
        (nap or self._stop).wait(pause_s)
        self._nap = None

    def wake(self) -> None:
        """Try now what waits in the slow lane: a person may have cured it. From any thread."""
        nap = self._nap
        if nap is not None:
            nap.set()

    def _tell(self, condition: Condition) -> None:
        self._on_state(condition)
        state = condition.state
        if state == self._told and state != "live" and condition.cause != self._told_cause:
            # One key for all that an outage turns into: causes that take turns are one line a minute together.
            extra = {"stream": self._name, "about": self._name, "same": f"{self._name}: still {state}"}
            log.warning("%s: still %s: %s", self._name, state_in_words(state), condition.detail, extra=extra)
            self._told_cause = condition.cause
        elif state not in ("connecting", self._told):
            self._told, self._told_cause = state, condition.cause
            level = logging.INFO if state == "live" else logging.WARNING
            # Of an outage the next try is in another number of seconds each time.
            extra = {"stream": self._name, "about": self._name, "same": f"{self._name}: {state}, {condition.cause}"}
            if state == "live":
                extra["ends"] = self._told_as  # or the beginning
            self._told_as = extra["same"]
            then = "" if condition.pause_s is None else f" (next try in {duration(condition.pause_s)})"
            log.log(level, "%s: %s%s", self._name, condition.detail or state, then, extra=extra)
