# SPDX-License-Identifier: Apache-2.0
"""The journeys of a run that is to be written into a file: of all streams together, and within a budget."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Sequence

from pipeline.ledger.journal import MOST_FOR_A_FILE
from pipeline.timing import Mark


class WholeRun:
    """The frames that ended last, whichever streams they are of. Threads may share it.

    Attributes:
        left_out: frames that ended before these, and gave way.
    """

    def __init__(self, most: int = MOST_FOR_A_FILE) -> None:
        self.left_out = 0
        self._most = most
        self._kept: list[tuple[int, int, str, list[int]]] = []  # a heap: the first to end is the first to go
        self._added = 0
        self._lock = threading.Lock()

    def add(self, stream: str, traces: Sequence[list[int]]) -> None:
        """Frames of one stream that have ended."""
        with self._lock:
            for trace in traces:
                self._added += 1
                each = max(trace[: len(Mark)]), self._added, stream, trace
                if len(self._kept) < self._most:
                    heapq.heappush(self._kept, each)
                else:  # those of a slow stream come late, and may be older than all others
                    heapq.heappushpop(self._kept, each)
                    self.left_out += 1

    def journeys(self, since_ns: int) -> dict[str, list[list[int]]]:
        """By stream, the traces of those that ended after ``since_ns`` (monotonic), by the time of their end."""
        with self._lock:
            kept = self._kept.copy()
        found: dict[str, list[list[int]]] = {}
        for ended_ns, _, stream, trace in sorted(kept):
            if ended_ns > since_ns:
                found.setdefault(stream, []).append(trace)
        return found

    def since_ns(self) -> int:
        """When the first of these frames was read (monotonic): 0 where none was left out."""
        with self._lock:
            return self._kept[0][3][Mark.READ] if self.left_out else 0
