# SPDX-License-Identifier: Apache-2.0
"""A camera that is read in another process, as a source."""

from __future__ import annotations

from typing import Any, Final

from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.sources.isolation import wire
from pipeline.sources.isolation.nonsense import Nonsense
from pipeline.sources.isolation.process import Isolation
from pipeline.sources.isolation.segment import SLOTS
from pipeline.threads import StopFlag
from pipeline.timing import now_ns

MARGIN_S: Final = 2.0
"""Beyond the limits that the process keeps itself, before it is held to hang."""
MOST_FPS: Final = 10_000
"""Frames a second that a process may say it has decoded."""


class IsolatedSource:
    """One connection, read in the process of its stream. Frames, counters and errors are those of the source there."""

    truncation = None

    def __init__(self, home: Isolation, order: dict[str, Any], *, open_s: float, read_s: float) -> None:
        """``order``: what is read there, see :class:`pipeline.sources.isolation.orders.Maker`. ``open_s``, ``read_s``:
        the longest that ``open`` and the wait for a packet may take there."""
        self.counters = SourceCounters()
        self._home = home
        self._order = order
        self._open_s, self._read_s = open_s + MARGIN_S, read_s + MARGIN_S
        self._stop = StopFlag()
        self._number: int | None = None
        self._taken_ns = now_ns()  # when the latest frame came, or this was made

    def open(self, stop: StopFlag) -> StreamInfo:
        """Connect there; raises what the source there raised, or that its process crashed or hangs."""
        self._stop = stop
        self._number = self._home.order(self._order, stop)
        if self._number is None:
            return StreamInfo("", live=True)
        try:
            while (message := self._home.receive(stop, self._open_s)) is not None:
                if message[:1] == wire.INFO and (said := wire.parse_json(message))[0] == self._number:
                    return wire.info_of(said[1])
                self._raise_if_failed(message)
        except Nonsense as exc:
            self._home.betrayed(exc)
        return StreamInfo("", live=True)

    def read(self) -> Capture | None:
        """The next frame, or None once stop is set."""
        if self._number is None or self._stop.is_set():
            return None
        home = self._home
        home.want()
        try:
            while (message := home.receive(self._stop, self._read_s)) is not None:
                if message[:1] == wire.FRAME:
                    sent = wire.Sent.parse(message)
                    if sent.connection == self._number:
                        self._check_missed(sent.missed)
                        self._count(sent.counted)
                        return home.picture(sent)
                elif message[:1] == wire.DECODER:
                    number, known = wire.parse_json(message)[:2]
                    if number == self._number:
                        self.counters.decoder = wire.decoder_of(known)
                else:
                    self._raise_if_failed(message)
        except Nonsense as exc:
            home.betrayed(exc)
        return None

    def close(self) -> None:
        """Hang up; may be called twice."""
        if self._number is not None:
            self._number = None
            self._home.hang_up()

    def _raise_if_failed(self, message: bytes) -> None:
        if message[:1] != wire.FAILED:
            return
        number, known, *counted = wire.parse_json(message)
        if number != self._number:
            return
        error = wire.error_of(known)
        if counted and isinstance(counted[0], list) and all(isinstance(count, int) for count in counted[0]):
            self._count((*counted[0], 0, 0, 0)[:3])
        if error.cause == "memory":  # what is left of its address space is in pieces
            self._home.close()
            raise self._home.too_small(str(error))
        raise error

    def _check_missed(self, missed: int) -> None:
        """Each of them is accounted for, one by one: there cannot be more than decode in the time; raises Nonsense."""
        since_ns, self._taken_ns = self._taken_ns, now_ns()
        if missed > SLOTS + MOST_FPS * (self._taken_ns - since_ns) / 1e9:
            raise Nonsense("more frames than there can be")

    def _count(self, counted: tuple[int, ...]) -> None:
        self.counters.decode_errors, self.counters.skipped, self.counters.discontinuities = counted
