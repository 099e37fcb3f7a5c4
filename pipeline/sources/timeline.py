# SPDX-License-Identifier: Apache-2.0
"""From a decoder's time stamps to seconds since the stream's first frame that never run backwards."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

JUMP_S: Final = 10.0
"""A step forward beyond this (and beyond five declared intervals) is a break in the time stamps."""
DISORDER_S: Final = 1.0
"""A step back of less than this is disorder inside the container, not a break."""
TICK_S: Final = 1e-6
"""What a disordered or repeated stamp advances by: the resolution in which pts are published."""
_FALLBACK_INTERVAL_S: Final = 0.04


class Timeline:
    """Places the stamps of one stream, or of one connection to it, on one axis that only grows.

    - A missing stamp continues at the declared rate, or at the last interval where none is declared.
    - A stamp at or up to :data:`DISORDER_S` behind the last one advances by :data:`TICK_S`; later ones are unaffected.
    - A break is a step further back, or a jump forward by more than :data:`JUMP_S`: epoch and breaks grow by one.
      After a step back the axis goes on one interval later. After a jump forward a recording keeps its gap, as any
      player shows it; a feed goes on by the time that really passed between the two arrivals, since its sender's
      clock was set meanwhile (a feed whose frames really arrived that much later did not jump at all).

    Args:
        time_base: of the stamps, in seconds.
        interval_s: declared seconds between two frames, or None.
        live: a feed.

    Attributes:
        epoch, breaks: number of breaks so far.
    """

    __slots__ = (
        "_declared_s",
        "_den",
        "_last_read_ns",
        "_last_s",
        "_live",
        "_num",
        "_offset_s",
        "_origin",
        "_step_s",
        "breaks",
    )

    def __init__(self, time_base: Fraction, interval_s: float | None = None, *, live: bool = False) -> None:
        self._num, self._den = time_base.numerator, time_base.denominator
        self._declared_s = interval_s
        self._step_s = interval_s or _FALLBACK_INTERVAL_S
        self._live = live
        self._origin: int | None = None
        self._offset_s = 0.0
        self._last_s = -1.0
        self._last_read_ns = 0
        self.breaks = 0

    @property
    def epoch(self) -> int:
        """Grows at each break."""
        return self.breaks

    @property
    def interval_s(self) -> float:
        """The declared interval between frames, or the last one seen."""
        return self._step_s

    def place(self, pts: int | None, read_ns: int) -> float:
        """Seconds since the first frame for a stamp in units of the time base, read at ``read_ns`` (monotonic)."""
        last = self._last_s
        if last < 0:
            at = 0.0
            self._origin = pts
        elif pts is None:
            at = last + self._step_s
        elif self._origin is None:
            at = self._offset_s = last + self._step_s
            self._origin = pts
        else:
            at = self._offset_s + (pts - self._origin) * self._num / self._den
            step = at - last
            if step <= 0 and step > -DISORDER_S:
                at = last + TICK_S
            elif (step < 0 or step > JUMP_S) and self._is_break(step, read_ns):
                self.breaks += 1
                if step < 0 or self._live:
                    at = self._resume(read_ns)
                    self._origin, self._offset_s = pts, at
            elif self._declared_s is None:
                self._step_s = step
        self._last_s = at
        self._last_read_ns = read_ns
        return at

    def _is_break(self, step: float, read_ns: int) -> bool:
        if step < 0:
            return True
        if self._live:
            return step - (read_ns - self._last_read_ns) / 1e9 > JUMP_S
        return step > 5 * self._step_s  # a time lapse has long steps all along

    def _resume(self, read_ns: int) -> float:
        if self._live:
            return self._last_s + max((read_ns - self._last_read_ns) / 1e9, TICK_S)
        return self._last_s + self._step_s
