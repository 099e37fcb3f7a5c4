# SPDX-License-Identifier: Apache-2.0
"""How long results are held, so that they leave as evenly as their frames were made."""

from __future__ import annotations

from typing import Final

LATE_SHARE: Final = 0.01
"""So many results are late where the delay follows the stream: it is the 99th percentile of what they need."""
LONGEST_NS: Final = 1_000_000_000
"""Whose results need longer than this has too much to do, and holding them cures nothing."""

_SHARE: Final = 1 / 16
_LEAST_NS: Final = 1_000_000


class PlayoutDelay:
    """The delay of one stream, from a frame's place on the stream's own time line to when its result leaves.

    Either it is given, or it follows the stream: then each result that is late makes it longer by a step, and each one
    that is not makes it shorter by the 99th part of that, so it rests where one in a hundred is late (a quantile by
    stochastic approximation: H. Robbins, S. Monro, 1951). A step is 1 ms and a sixteenth of the delay. From nothing
    to 40 ms take 21 late results, and one result that is very late changes little. Used by one thread.

    Attributes:
        delay_ns: the delay at the moment.
        adapts: whether it follows the stream.
    """

    __slots__ = ("_most_ns", "adapts", "delay_ns")

    def __init__(self, delay_ns: int | None = None, most_ns: int | None = None) -> None:
        """``delay_ns``: given; None: it follows the stream, from nothing up to ``most_ns`` (None: a second)."""
        self.adapts = delay_ns is None
        self.delay_ns = delay_ns or 0
        self._most_ns = LONGEST_NS if most_ns is None else min(most_ns, LONGEST_NS)

    def due_ns(self, place_ns: int, ready_ns: int) -> int:
        """When a result leaves that is ready at ``ready_ns``, and its frame's place; all monotonic."""
        due_ns = place_ns + self.delay_ns
        if self.adapts:
            step_ns = _LEAST_NS + self.delay_ns * _SHARE
            if ready_ns <= due_ns:
                step_ns *= -LATE_SHARE / (1 - LATE_SHARE)
            self.delay_ns = min(max(0, self.delay_ns + round(step_ns)), self._most_ns)
        return due_ns
