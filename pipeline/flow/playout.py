# SPDX-License-Identifier: Apache-2.0
"""The playout buffer: results that are ready before their time wait, and leave as evenly as their frames were made."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from pipeline.frame import StreamKey


class _Held(NamedTuple):
    due_ns: int
    number: int  # of all that was ever held: what is due at the same time leaves as it came
    leave: Callable[[], None]


class Playout:
    """A line of each stream whose results wait for their time. Nothing overtakes what is before it in its line.

    Used by one thread, but for :meth:`hurry`. Memory is bounded by what a stream delivers in its delay.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._lines: dict[StreamKey, deque[_Held]] = {}  # none is empty
        self._heads: list[tuple[int, int, StreamKey]] = []  # a heap: the first of each line
        self._count = 0
        self._hurried = False

    def add(self, key: StreamKey, due_ns: int, leave: Callable[[], None]) -> None:
        """Have ``leave`` called at ``due_ns`` (monotonic; 0: as soon as may be), after all that was added for this
        stream before: here and now, where nothing is left to wait for."""
        line = self._lines.get(key)
        if line is None and (self._hurried or due_ns <= self._now()):
            leave()
            return
        self._count += 1
        held = _Held(due_ns, self._count, leave)
        if line is None:
            self._lines[key] = deque([held])
            heapq.heappush(self._heads, (due_ns, held.number, key))
        else:
            line.append(held)

    def release(self) -> None:
        """Let everything leave whose time has come."""
        while self._heads and (self._hurried or self._heads[0][0] <= self._now()):
            _, _, key = heapq.heappop(self._heads)
            line = self._lines[key]
            held = line.popleft()
            if line:
                heapq.heappush(self._heads, (line[0].due_ns, line[0].number, key))
            else:
                del self._lines[key]
            held.leave()

    def flush(self, key: StreamKey) -> None:
        """Let everything of one stream leave now."""
        line = self._lines.pop(key, None)
        if line is None:
            return
        self._heads = [head for head in self._heads if head[2] != key]
        heapq.heapify(self._heads)
        for held in line:
            held.leave()

    def hurry(self) -> None:
        """Nothing waits any more, from the next :meth:`release` on. From any thread; cannot be taken back."""
        self._hurried = True

    @property
    def due_ns(self) -> int | None:
        """When something is due: 0 for at once; None while nothing waits."""
        if not self._heads:
            return None
        return 0 if self._hurried else self._heads[0][0]
