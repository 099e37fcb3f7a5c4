# SPDX-License-Identifier: Apache-2.0
"""What signals ask of a daemon. Handlers only take note; the main thread sees to it when it comes by."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.daemon.board import Board
from pipeline.daemon.stacks import told_on_a_signal

RELOADS_APART_NS = 1_000_000_000
"""Between two reloads: a signal that comes sooner waits, so that a hundred of them are two reloads."""


class Signals:
    """SIGINT and SIGTERM stop, SIGHUP reads the configuration again, SIGUSR1 shows the stacks of all threads.

    Attributes:
        stops: numbers of the signals that asked for a stop so far. The second one tells the board at once.
        over: they are not heard any more.
    """

    def __init__(self, board: Board) -> None:
        self.stops: list[int] = []
        self.over = False
        self._board = board
        self._reload_asked = False
        self._may_reload_ns = 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """For as long as the block lasts. In the program's first thread."""
        handlers = {signal.SIGINT: self._on_stop, signal.SIGTERM: self._on_stop, signal.SIGHUP: self._on_reload}
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            with told_on_a_signal():
                yield
        finally:
            self.over = True  # before others hear them
            for number, handler in previous.items():
                signal.signal(number, handler)

    @property
    def first(self) -> str:
        """The name of the one that asked first for a stop."""
        return signal.Signals(self.stops[0]).name

    def asks_for_reload(self, now_ns: int) -> bool:
        """Whether the configuration is to be read again now; each request is told once."""
        if not self._reload_asked or now_ns < self._may_reload_ns:
            return False
        self._reload_asked, self._may_reload_ns = False, now_ns + RELOADS_APART_NS
        return True

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self.stops.append(number)
        self._board.leaving = len(self.stops) > 1

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        self._reload_asked = True
