# SPDX-License-Identifier: Apache-2.0
"""How long results are held, so that they leave as evenly as their frames were made."""

from __future__ import annotations

from collections import deque
from typing import Final

LOOKS_BACK: Final = 100
"""Results that a delay that follows its stream is long enough for. About one in so many is late."""
LONGEST_NS: Final = 1_000_000_000
"""Whose results need longer than this has too much to do, and holding them cures nothing."""
_HASTE: Final = 0.02
"""It shrinks by so much of the time that passes: results leave by so much faster than their frames were made."""


class PlayoutDelay:
    """The delay of one stream, from a frame's place on the stream's own time line to when its result leaves.

    Either it is given, or it follows the stream: it is what the neediest of the last :data:`LOOKS_BACK` results needed.
    It grows at once, since what needs more is late as it is, and shrinks slowly. Used by one thread.

    Attributes:
        delay_ns: the delay at the moment.
        adapts: whether it follows the stream.
    """

    __slots__ = ("_count", "_most_ns", "_needs", "_place_ns", "adapts", "delay_ns")

    def __init__(self, delay_ns: int | None = None, most_ns: int | None = None) -> None:
        """``delay_ns``: given; None: it follows the stream, from nothing up to ``most_ns`` (None: a second)."""
        self.adapts = delay_ns is None
        self.delay_ns = delay_ns or 0
        self._most_ns = LONGEST_NS if most_ns is None else min(most_ns, LONGEST_NS)
        self._needs: deque[tuple[int, int]] = deque()  # number and need of those that none needs more than since
        self._count = 0
        self._place_ns: int | None = None

    def due_ns(self, place_ns: int, ready_ns: int) -> int:
        """When a result leaves that is ready at ``ready_ns``, and its frame's place; all monotonic."""
        due_ns = place_ns + self.delay_ns
        if self.adapts:
            self._follow(place_ns, ready_ns - place_ns)
        return due_ns

    def _follow(self, place_ns: int, need_ns: int) -> None:
        needs = self._needs
        self._count += 1
        while needs and needs[-1][1] <= need_ns:
            needs.pop()
        needs.append((self._count, need_ns))
        if needs[0][0] <= self._count - LOOKS_BACK:
            needs.popleft()
        passed_ns = 0 if self._place_ns is None else max(0, place_ns - self._place_ns)
        self._place_ns = place_ns
        self.delay_ns = min(max(needs[0][1], self.delay_ns - round(passed_ns * _HASTE), 0), self._most_ns)
