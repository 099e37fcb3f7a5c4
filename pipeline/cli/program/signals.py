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
def around_a_daemon() -> Iterator[Callable[[int], None]]:
    """For as long as a daemon does not listen itself: while it is imported and made, and while its report is written.

    What asks a daemon for something (SIGHUP, SIGUSR1) is passed over and does not end the program, as the system would.
    SIGTERM raises Stopped: the first process of a container is ended by no signal that it has no handler for.

    Yields what is called when the daemon has ended, with the number of signals that asked it to stop: the first of all
    does not cost the report, the second raises Stopped there, too.
    """
    spared = 0

    def stopped(number: int, frame: FrameType | None) -> None:
        nonlocal spared
        if spared:
            spared -= 1
            return
        raise Stopped(number)

    def ended(asked: int) -> None:
        nonlocal spared
        spared = max(0, 1 - asked)

    handlers: dict[int, Any] = {signal.SIGHUP: signal.SIG_IGN, signal.SIGUSR1: signal.SIG_IGN}
    handlers |= dict.fromkeys(_SIGNALS, stopped)
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield ended
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
        self._holding = self._spared = False
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
            self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
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
        """The run has ended: the first signal of all is passed over, so that the report is written whole. The second
        raises Stopped, here as well."""
        self._holding = True

    def release(self) -> None:
        """The report is there: a signal ends the program at once."""
        self._has_begun = lambda: False
        self._holding = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._holding and self.received is None and not self._spared:
            self._spared = True
            return
        if self._holding:
            raise Stopped(number)
        if not self._has_begun():
            self._raised = number
            raise Stopped(number)
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
