# SPDX-License-Identifier: Apache-2.0
"""Answers that cost something are made once for all who ask within a moment, and not in the server's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

T = TypeVar("T")


class Fresh(Generic[T]):
    """What ``make`` returned, made at most once in ``for_s``, however many ask.

    Who asks within twice that time is given the last one at once, while the next one is made: of clients that ask
    again and again nobody waits. Who asks later waits for a new one.
    """

    def __init__(self, make: Callable[[], T], executor: Executor | None, for_s: float) -> None:
        self._make = make
        self._executor = executor
        self._for_s = for_s
        self._made: tuple[T, float] | None = None  # and when, in seconds of the loop
        self._making: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The newest one; raises what ``make`` raises."""
        age_s = float("inf") if self._made is None else asyncio.get_running_loop().time() - self._made[1]
        if self._made is not None and age_s < self._for_s:
            return self._made[0]
        if self._making is None:
            self._making = asyncio.create_task(self._make_anew())
            self._making.add_done_callback(self._over)
        if self._made is not None and age_s < 2 * self._for_s:
            return self._made[0]
        return await asyncio.shield(self._making)  # others may wait for the same one

    async def _make_anew(self) -> T:
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._executor, self._make)
        self._made = made, loop.time()
        return made

    def _over(self, making: asyncio.Task[T]) -> None:
        self._making = None
        if not making.cancelled():
            making.exception()  # told to those who wait; if nobody does, whoever asks next will find out
