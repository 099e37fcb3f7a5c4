# SPDX-License-Identifier: Apache-2.0
"""A mergeable histogram of durations with bounded memory and a relative error under 1 %.

Buckets grow linearly within each power of two (the scheme of Gil Tene's HdrHistogram): 64 sub-buckets per octave
give a bucket width of at most 1/64 of its value, and a percentile is reported as its bucket's middle, hence an error
of at most 0.8 %. Sum, count and maximum are exact. Nothing is clipped: any 63-bit value has its bucket, and only
buckets in use take memory (3,712 at the very most).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

_BITS = 6
_SUB = 1 << _BITS  # sub-buckets per octave


def _bucket(value: int) -> int:
    octave = value.bit_length() - 1 - _BITS
    if octave <= 0:
        return value
    return _SUB * octave + (value >> octave)


def _middle(bucket: int) -> int:
    if bucket < 2 * _SUB:
        return bucket
    octave = bucket // _SUB - 1
    low = (bucket - _SUB * octave) << octave
    return low + (1 << octave) // 2


@lru_cache(256)
def _last_bucket(bound: int) -> int:
    """The last bucket whose middle is not above ``bound``."""
    bucket = _bucket(bound)
    return bucket if _middle(bucket) <= bound else bucket - 1


class Histogram:
    """Counts of non-negative integers (nanoseconds). Not locked: one writer, or the caller's lock."""

    __slots__ = ("count", "counts", "maximum", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.maximum = 0

    def record(self, value: int) -> None:
        """Add one value. Negative values are a fault of the caller and raise ValueError."""
        if value < 0:
            raise ValueError(f"a duration cannot be negative: {value}")
        bucket = _bucket(value)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.count += 1
        self.total += value
        if value > self.maximum:
            self.maximum = value

    def merge(self, other: Histogram) -> None:
        """Add all values of ``other``; merging is associative and commutative."""
        if not self.counts:
            self.counts = other.counts.copy()  # ten times as fast as one by one: every answer begins so
        else:
            for bucket, count in other.counts.items():
                self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.count += other.count
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)

    def percentile(self, percent: float) -> int | None:
        """The value below or at which ``percent`` % of the values lie (inverted CDF), or None when empty."""
        return self.percentiles((percent,))[0] if self.count else None

    def percentiles(self, percents: tuple[float, ...]) -> list[int]:
        """Several percentiles, ascending, in one pass; the histogram must not be empty."""
        ranks = (max(1, -int(-percent * self.count // 100)) for percent in percents)
        buckets, sums = self._sums()
        return [min(_middle(buckets[bisect_left(sums, rank)]), self.maximum) for rank in ranks]

    def at_most(self, bounds: Sequence[int]) -> list[int]:
        """How many values lie at or below each of ``bounds``, ascending. A value counts as its bucket's middle."""
        buckets, sums = self._sums()
        sums.append(0)  # what lies below all buckets: the sum before the first
        return [sums[bisect_right(buckets, _last_bucket(bound)) - 1] for bound in bounds]

    def _sums(self) -> tuple[list[int], list[int]]:
        """The buckets in use, ascending, and how many values lie in each and in those before it."""
        buckets = sorted(self.counts)
        return buckets, list(accumulate(map(self.counts.__getitem__, buckets)))

    @property
    def mean(self) -> float | None:
        """Exact arithmetic mean, or None when empty."""
        return self.total / self.count if self.count else None
