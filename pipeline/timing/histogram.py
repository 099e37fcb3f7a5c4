# SPDX-License-Identifier: Apache-2.0
"""A mergeable histogram of durations with bounded memory and a relative error under 1 %.

Buckets grow linearly within each power of two (the scheme of Gil Tene's HdrHistogram): 64 sub-buckets per octave
give a bucket width of at most 1/64 of its value, and a percentile is reported as its bucket's middle, hence an error
of at most 0.8 %. Sum, count and maximum are exact. Nothing is clipped: any 63-bit value has its bucket, and only
buckets in use take memory (3,712 at the very most).

**Coordinated omission.** While something stalls, what would have come meanwhile is not even submitted, so the stall is
recorded once instead of once per frame that it would have delayed. :meth:`Histogram.corrected` adds what is missing
(Tene's ``copyCorrectedForCoordinatedOmission``): for a value v above the expected interval I also v - I, v - 2I, ...
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

_BITS = 6
_SUB = 1 << _BITS  # sub-buckets per octave


def bucket_of(value: int) -> int:
    """Where a value is counted."""
    octave = value.bit_length() - 1 - _BITS
    if octave <= 0:
        return value
    return _SUB * octave + (value >> octave)


def bucket_start(bucket: int) -> int:
    """The least value that is counted in a bucket: it reaches up to the start of the next."""
    if bucket < 2 * _SUB:
        return bucket
    octave = bucket // _SUB - 1
    return (bucket - _SUB * octave) << octave


def _middle(bucket: int) -> int:
    return bucket_start(bucket) + (1 << max(0, bucket // _SUB - 1)) // 2


@lru_cache(256)
def _last_bucket(bound: int) -> int:
    """The last bucket whose middle is not above ``bound``."""
    bucket = bucket_of(bound)
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
        bucket = bucket_of(value)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.count += 1
        self.total += value
        if value > self.maximum:
            self.maximum = value

    def add(self, values: Sequence[int], buckets: Sequence[int]) -> None:
        """Add many values at once, whose ``buckets`` (:func:`bucket_of`) the caller has worked out together."""
        if values:
            counts = self.counts
            for bucket in buckets:
                counts[bucket] = counts.get(bucket, 0) + 1
            self.count += len(values)
            self.total += sum(values)
            self.maximum = max(self.maximum, *values)

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

    def sparse(self) -> tuple[list[int], list[int]]:
        """The buckets in use, ascending, and how many values lie in each."""
        buckets = sorted(self.counts)
        return buckets, list(map(self.counts.__getitem__, buckets))

    def percentile(self, percent: float) -> int | None:
        """The value below or at which ``percent`` % of the values lie (inverted CDF), or None when empty."""
        return self.percentiles((percent,))[0] if self.count else None

    def percentiles(self, percents: tuple[float, ...]) -> list[int]:
        """Several percentiles, ascending, in one pass; the histogram must not be empty."""
        # In the very arithmetic of numpy.percentile(method="inverted_cdf"): its rounding decides between neighbours.
        ranks = (max(1, math.ceil(self.count * (percent / 100))) for percent in percents)
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

    def corrected(self, interval_ns: int) -> Histogram:
        """A copy that also holds what coordinated omission kept out; ``interval_ns``: how often a frame was to come.

        Added values are worked out from the middles of buckets, so count and sum are as exact as a percentile is.
        """
        whole = Histogram()
        whole.merge(self)
        if interval_ns <= 0:
            return whole
        for bucket, count in self.counts.items():
            value = min(_middle(bucket), self.maximum)
            omitted = (value - 1) // interval_ns  # the values value - k * interval_ns > 0
            added = 0
            while added < omitted:
                at = bucket_of(value - (added + 1) * interval_ns)
                # All further values down to the bucket's lower end fall into it: few steps, however long the stall.
                here = min(omitted, (value - bucket_start(at)) // interval_ns) - added
                whole.counts[at] = whole.counts.get(at, 0) + here * count
                added += here
            whole.count += omitted * count
            whole.total += count * (omitted * value - interval_ns * omitted * (omitted + 1) // 2)
        return whole

    @property
    def mean(self) -> float | None:
        """Exact arithmetic mean, or None when empty."""
        return self.total / self.count if self.count else None
