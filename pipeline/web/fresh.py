# SPDX-License-Identifier: Apache-2.0
"""Answers that cost something are made once for all who ask within a moment, and not in the server's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Generic, TypeVar

T = TypeVar("T")

LONGEST_S: Final = 300.0
"""Who asks more rarely is not expected."""
LOOKING_S: Final = 60.0
"""Who asked so lately may ask again."""
_STEADY: Final = 0.25
"""By how much of it two intervals may differ and still be one rhythm; by half of ``for_s`` in any case."""


class Fresh(Generic[T]):
    """What ``make`` returned, made at most once in ``for_s``, however many ask.

    Who asks within three times that time is given the last one at once, while the next one is made: of clients that ask
    again and again nobody waits. Two more may ask later without waiting:

    - who keeps a rhythm (a scraper, a dashboard): once two intervals were alike, the answer to the next request is made
      shortly before it is due. That costs nothing more, since the request would have had it made, and one answer for
      each client that has gone away;
    - who asks at odd times, within :data:`LOOKING_S` of the last: :meth:`keep`, which costs an answer each time.

    Anybody else waits for a new one.
    """

    def __init__(self, make: Callable[[], T], executor: Executor | None, for_s: float) -> None:
        self._make = make
        self._executor = executor
        self._for_s = for_s
        self._made: tuple[T, float] | None = None  # and when, in seconds of the loop
        self._making: asyncio.Task[T] | None = None
        self._asked_s: float | None = None
        self._interval_s: float | None = None
        self._due: asyncio.TimerHandle | None = None

    async def get(self) -> T:
        """The newest one; raises what ``make`` raises."""
        now_s = asyncio.get_running_loop().time()
        self._expect_the_next(now_s)
        age_s = float("inf") if self._made is None else now_s - self._made[1]
        if self._made is not None and age_s < self._for_s:
            return self._made[0]
        making = self._begin()
        if self._made is not None and age_s < 3 * self._for_s:
            return self._made[0]
        return await asyncio.shield(making)  # others may wait for the same one

    def keep(self) -> None:
        """To be called every two times ``for_s`` at most: make a new one, if somebody who keeps no rhythm may ask."""
        asked_s, expected = self._asked_s, self._due is not None
        if asked_s is not None and not expected and asyncio.get_running_loop().time() - asked_s < LOOKING_S:
            self._begin()

    def _expect_the_next(self, now_s: float) -> None:
        """Requests of one moment count as one."""
        before_s = self._asked_s
        if before_s is not None and now_s - before_s < self._for_s:
            return
        self._asked_s = now_s
        interval_s, last_s = None if before_s is None else now_s - before_s, self._interval_s
        self._interval_s = interval_s
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if interval_s is None or last_s is None or interval_s > LONGEST_S:
            return
        if abs(interval_s - last_s) <= max(_STEADY * interval_s, self._for_s / 2):
            ahead_s = max(0.0, interval_s - self._for_s / 2)
            self._due = asyncio.get_running_loop().call_later(ahead_s, self._begin)

    def _begin(self) -> asyncio.Task[T]:
        if self._making is None:
            self._making = asyncio.create_task(self._make_anew())
            self._making.add_done_callback(self._over)
        return self._making

    async def _make_anew(self) -> T:
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._executor, self._make)
        self._made = made, loop.time()
        return made

    def _over(self, making: asyncio.Task[T]) -> None:
        self._making = None
        if not making.cancelled():
            making.exception()  # told to those who wait; if nobody does, whoever asks next will find out
