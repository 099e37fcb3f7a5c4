# SPDX-License-Identifier: Apache-2.0
"""A clock that somebody moves."""

from __future__ import annotations


class SimulatedClock:
    """Shows what it was set to.

    Args:
        now_ns: what it shows first.
        wall_offset_ns: wall time when it shows 0.
    """

    def __init__(self, now_ns: int, wall_offset_ns: int) -> None:
        self._now_ns = now_ns
        self._wall_offset_ns = wall_offset_ns

    def now_ns(self) -> int:
        """Virtual monotonic time."""
        return self._now_ns

    def wall_ns(self) -> int:
        """The wall time that belongs to it."""
        return self._wall_offset_ns + self._now_ns

    def set(self, now_ns: int) -> None:
        """It is ``now_ns``; for a moment it may be earlier, where marks of something that took time are made at its
        end."""
        self._now_ns = now_ns
