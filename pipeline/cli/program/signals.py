# SPDX-License-Identifier: Apache-2.0
"""Signals of a run that ends by itself: the first drains, the second gives up; and those around a daemon."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

from pipeline.cli.program.running import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def around_a_daemon() -> Iterator[Callable[[Callable[[], int | None]], None]]:
    """For as long as a daemon does not listen itself: while it is imported and made, and while its report is written.

    What asks a daemon for something (SIGHUP, SIGUSR1) is passed over and does not end the program, as the system would.
    SIGTERM raises Stopped: the first process of a container is ended by no signal that it has no handler for.

    Yields what is told how many signals have asked the daemon to stop, None until it has ended. From then on one signal
    does not cost the report: there is nothing left that it could ask for. One after that, or after the second one that
    the daemon heard, raises Stopped.
    """
    spared = False

    def nobody() -> int | None:
        return None

    asked: Callable[[], int | None] = nobody

    def stopped(number: int, frame: FrameType | None) -> None:
        nonlocal spared
        before = asked()
        if before is None or before > 1 or spared:
            raise Stopped(number)
        spared = True

    def follow(heard: Callable[[], int | None]) -> None:
        nonlocal asked
        asked = heard

    handlers: dict[int, Any] = {signal.SIGHUP: signal.SIG_IGN, signal.SIGUSR1: signal.SIG_IGN}
    handlers |= dict.fromkeys(_SIGNALS, stopped)
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield follow
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class StopRequests:
    """Hears the signals for as long as the block lasts.

    A handler runs between any two steps of the main thread, which may hold a lock then. So it only writes a byte to a
    pipe; a thread that reads the pipe calls ``drain`` and then ``abort``.

    Attributes:
        received: the first signal that came while the run was under way, or None.
        aborted: the second one came as well.
    """

    def __init__(self, has_begun: Callable[[], bool], drain: Callable[[], None], abort: Callable[[], None]) -> None:
        """Before ``has_begun`` there is nothing to drain: a signal raises Stopped in the main thread."""
        self.received: int | None = None
        self.aborted = False
        self._raised: int | None = None
        self._heard = 0
        self._holding = self._sparing = False
        self._has_begun = has_begun
        self._drain = drain
        self._abort = abort
        self._previous: dict[int, Any] = {}
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._listener = threading.Thread(target=self._listen, name="signals", daemon=True)

    def __enter__(self) -> StopRequests:
        self._listener.start()
        if threading.current_thread() is threading.main_thread():  # others get no signals
            # The terminal is closed; whoever started this program may have that passed over, as ``nohup`` does.
            closed = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
            heard = (*_SIGNALS, *closed)
            self._previous = {number: signal.signal(number, self._on_signal) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._writing)
        self._listener.join(1.0)
        if not self._listener.is_alive():
            os.close(self._reading)

    def heed(self) -> None:
        """Hear again what :exc:`Stopped` was raised for and somebody swallowed.

        Python drops what is raised in a finaliser or in a callback of the garbage collector, and a handler may well run
        in one of those. Called just before the run begins, and just after.
        """
        if self._raised is not None:
            self._on_signal(self._raised, None)

    def hold(self) -> None:
        """The run has ended: one signal is passed over, so that the report is written whole. One after that, or after
        the second of the run, raises Stopped."""
        self._sparing = self._heard < 2
        self._holding = True

    def release(self) -> None:
        """The report is there: a signal ends the program at once. The second of a run that was stopped asked for what
        has happened: it is passed over here, too."""
        self._sparing = self._sparing and self.received is not None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._holding and self._sparing:
            self._sparing = False
            return
        if self._holding:
            raise Stopped(number)
        if not self._has_begun():
            self._raised = number
            raise Stopped(number)
        self._heard += 1
        if self.received is None:
            self.received = number
        with suppress(BlockingIOError):
            os.write(self._writing, b"!")

    def _listen(self) -> None:
        if os.read(self._reading, 1):
            self._drain()
        if os.read(self._reading, 1):
            self.aborted = True
            self._abort()
        while os.read(self._reading, 64):
            pass
