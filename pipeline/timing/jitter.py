# SPDX-License-Identifier: Apache-2.0
"""Three small measures of unsteadiness; each says what it compares."""

from __future__ import annotations

import math


class DurationJitter:
    """Smoothed change between successive durations: ``J += (|d - d_previous| - J) / 16`` (RFC 3550 section 6.4.1's
    filter, applied to a stage's duration instead of a transit time)."""

    __slots__ = ("_previous", "value_ns")

    def __init__(self) -> None:
        self._previous: int | None = None
        self.value_ns = 0.0

    def record(self, duration_ns: int) -> None:
        """Add the next frame's duration."""
        if self._previous is not None:
            self.value_ns += (abs(duration_ns - self._previous) - self.value_ns) / 16
        self._previous = duration_ns


class TransitJitter:
    """Interarrival jitter of RFC 3550 section 6.4.1.

    ``D = (R_j - R_i) - (S_j - S_i)``, ``J += (|D| - J) / 16`` with R the time of arrival and S the capture time (pts).
    :meth:`reset` starts anew at a break in the time stamps.
    """

    __slots__ = ("_previous", "value_ns")

    def __init__(self) -> None:
        self._previous: int | None = None
        self.value_ns: float | None = None

    def record(self, arrival_ns: int, capture_ns: int) -> None:
        """Add a frame that arrived at ``arrival_ns`` (monotonic) and was captured at ``capture_ns`` (pts)."""
        transit = arrival_ns - capture_ns
        if self._previous is not None:
            jitter = self.value_ns or 0.0
            self.value_ns = jitter + (abs(transit - self._previous) - jitter) / 16
        self._previous = transit

    def reset(self) -> None:
        """Forget the last frame, not the value: call it at a reconnect or a discontinuity."""
        self._previous = None


class IntervalJitter:
    """Standard deviation of the intervals between successive departures (Welford's running variance)."""

    __slots__ = ("_count", "_mean", "_previous", "_squares")

    def __init__(self) -> None:
        self._previous: int | None = None
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def record(self, at_ns: int) -> None:
        """Add a departure at ``at_ns`` (monotonic)."""
        if self._previous is not None:
            interval = at_ns - self._previous
            self._count += 1
            delta = interval - self._mean
            self._mean += delta / self._count
            self._squares += delta * (interval - self._mean)
        self._previous = at_ns

    @property
    def value_ns(self) -> float | None:
        """Standard deviation in nanoseconds, or None before the second interval."""
        return math.sqrt(self._squares / self._count) if self._count > 1 else None
