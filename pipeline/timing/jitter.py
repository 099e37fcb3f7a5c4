# SPDX-License-Identifier: Apache-2.0
"""Three small measures of unsteadiness; each says what it compares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_FREEZE_NS: Final = 150_000_000


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

    def record_all(self, durations_ns: Sequence[int]) -> None:
        """Add successive frames' durations."""
        previous, jitter = self._previous, self.value_ns
        for duration_ns in durations_ns:
            if previous is not None:
                jitter += (abs(duration_ns - previous) - jitter) / 16
            previous = duration_ns
        self._previous, self.value_ns = previous, jitter


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

    def record_all(self, arrivals_ns: Sequence[int], captures_ns: Sequence[int]) -> None:
        """Add successive frames."""
        previous, jitter = self._previous, self.value_ns
        for arrival_ns, capture_ns in zip(arrivals_ns, captures_ns, strict=True):
            transit = arrival_ns - capture_ns
            if previous is not None:
                before = jitter or 0.0
                jitter = before + (abs(transit - previous) - before) / 16
            previous = transit
        self._previous, self.value_ns = previous, jitter

    def reset(self) -> None:
        """Forget the last frame, not the value: call it at a reconnect or a discontinuity."""
        self._previous = None


class IntervalJitter:
    """Standard deviation of the intervals between successive departures (Welford's running variance), and gaps.

    Attributes:
        largest_ns: the longest interval.
        freezes: intervals above ``max(3 * nominal, nominal + 150 ms)``, the rule of WebRTC's ``freezeCount``.
    """

    __slots__ = ("_count", "_mean", "_previous", "_squares", "freezes", "largest_ns")

    def __init__(self) -> None:
        self.largest_ns = 0
        self.freezes = 0
        self._previous: int | None = None
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def record(self, at_ns: int) -> None:
        """Add a departure at ``at_ns`` (monotonic)."""
        if self._previous is not None:
            self._add(at_ns - self._previous)
        self._previous = at_ns

    def record_all(self, times_ns: Sequence[int], nominal_ns: int | None = None) -> list[int]:
        """Add successive departures; returns the intervals. ``nominal_ns``: the interval that is no freeze; None: what
        is one cannot be said."""
        if not times_ns:
            return []
        first = times_ns[0] if self._previous is None else self._previous
        intervals = [at - before for before, at in zip([first, *times_ns], times_ns, strict=False)]
        if self._previous is None:
            del intervals[0]
        limit_ns = None if nominal_ns is None else max(3 * nominal_ns, nominal_ns + _FREEZE_NS)
        for interval_ns in intervals:
            self._add(interval_ns)
            self.freezes += limit_ns is not None and interval_ns > limit_ns
        self._previous = times_ns[-1]
        return intervals

    def reset(self) -> None:
        """Forget the last departure, not the values: call it at a reconnect or a discontinuity."""
        self._previous = None

    def _add(self, interval_ns: int) -> None:
        self._count += 1
        delta = interval_ns - self._mean
        self._mean += delta / self._count
        self._squares += delta * (interval_ns - self._mean)
        self.largest_ns = max(self.largest_ns, interval_ns)

    @property
    def value_ns(self) -> float | None:
        """Standard deviation in nanoseconds, or None before the second interval."""
        return math.sqrt(self._squares / self._count) if self._count > 1 else None
