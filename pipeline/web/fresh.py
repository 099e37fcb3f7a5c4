# SPDX-License-Identifier: Apache-2.0
"""Answers that cost something are made once for all who ask within a moment, and not in the server's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

T = TypeVar("T")


class Fresh(Generic[T]):
    """What ``make`` returned, made anew when it is older than ``for_s``. Any number of clients cost one."""

    def __init__(self, make: Callable[[], T], executor: Executor | None, for_s: float) -> None:
        self._make = make
        self._executor = executor
        self._for_s = for_s
        self._made: T | None = None
        self._at_s = 0.0
        self._lock = asyncio.Lock()

    async def get(self) -> T:
        """The newest one; raises what ``make`` raises."""
        async with self._lock:
            loop = asyncio.get_running_loop()
            if self._made is None or loop.time() - self._at_s >= self._for_s:
                self._made = await loop.run_in_executor(self._executor, self._make)
                self._at_s = loop.time()
            return self._made
