# SPDX-License-Identifier: Apache-2.0
"""How long results are held, so that they leave as evenly as their frames were made."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Final

LOOKS_BACK: Final = 100
"""Results that a delay that follows its stream is found from."""
LONGEST_NS: Final = 1_000_000_000
"""Whose results need longer than this has too much to do, and holding them cures nothing."""
_HASTE: Final = 0.02
"""It shrinks by so much of the time that passes: results leave by so much faster than their frames were made."""


class PlayoutDelay:
    """The delay of one stream, from a frame's place on the stream's own time line to when its result leaves.

    Either it is given, or it follows the stream: it is what ``percentile`` of the last :data:`LOOKS_BACK` results
    needed at most. It grows at once, since what needs more is late as it is, and shrinks slowly. Used by one thread.

    Attributes:
        delay_ns: the delay at the moment.
        percentile: of results that it is long enough for, 1 to 99; None: it was given.
    """

    __slots__ = ("_most_ns", "_needs", "_place_ns", "_sorted", "delay_ns", "percentile")

    def __init__(self, delay_ns: int = 0, *, percentile: int | None = None, most_ns: int | None = None) -> None:
        """``delay_ns``: given, or to begin with; ``most_ns``: it grows no longer than this (None: a second)."""
        self.delay_ns = delay_ns
        self.percentile = percentile
        self._most_ns = LONGEST_NS if most_ns is None else min(most_ns, LONGEST_NS)
        self._needs: deque[int] = deque()  # of the last results
        self._sorted: list[int] = []  # the same
        self._place_ns: int | None = None

    def due_ns(self, place_ns: int, ready_ns: int) -> int:
        """When a result leaves that is ready at ``ready_ns``, and its frame's place; all monotonic."""
        due_ns = place_ns + self.delay_ns
        if self.percentile is not None:
            self._follow(self.percentile, place_ns, ready_ns - place_ns)
        return due_ns

    def _follow(self, percentile: int, place_ns: int, need_ns: int) -> None:
        self._needs.append(need_ns)
        insort(self._sorted, need_ns)
        if len(self._needs) > LOOKS_BACK:
            del self._sorted[bisect_left(self._sorted, self._needs.popleft())]
        # So that of as many results more that are like these, 100 - percentile in a hundred are late.
        enough_ns = self._sorted[-max(1, len(self._sorted) * (100 - percentile) // 100)]
        passed_ns = 0 if self._place_ns is None else max(0, place_ns - self._place_ns)
        self._place_ns = place_ns
        self.delay_ns = min(max(enough_ns, self.delay_ns - round(passed_ns * _HASTE), 0), self._most_ns)
