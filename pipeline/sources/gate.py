# SPDX-License-Identifier: Apache-2.0
"""Taking turns at connecting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.threads import StopFlag
from pipeline.timing import SYSTEM, Clock

LONGEST_NS = 60_000_000_000


class Gate:
    """Lets a number of threads in at the same time, first come, first served.

    One that is inside for longer than a minute no longer counts: a thread that hangs in native code must not keep
    others out for ever.
    """

    def __init__(self, most: int, clock: Clock = SYSTEM) -> None:
        """``most`` may be inside at the same time."""
        self._most = most
        self._now = clock.now_ns
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._inside: dict[object, int] = {}

    @contextmanager
    def turn(self, stop: StopFlag) -> Iterator[bool]:
        """Wait for a turn and keep it for the block; False where stop came first."""
        ticket = object()
        try:
            yield self._enter(ticket, stop)
        finally:
            with self._changed:
                self._inside.pop(ticket, None)
                self._changed.notify_all()

    def _enter(self, ticket: object, stop: StopFlag) -> bool:
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or self._count() >= self._most:
                    if stop.is_set():
                        return False
                    self._changed.wait(0.2)
                self._inside[ticket] = self._now()
                return True
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _count(self) -> int:
        now_ns = self._now()
        return sum(now_ns - since_ns < LONGEST_NS for since_ns in self._inside.values())
