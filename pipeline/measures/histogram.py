# SPDX-License-Identifier: Apache-2.0
"""A mergeable histogram of durations with bounded memory and a relative error under 1 %.

Buckets grow linearly within each power of two (the scheme of Gil Tene's HdrHistogram): 64 sub-buckets per octave
give a bucket width of at most 1/64 of its value, and a percentile is reported as its bucket's middle, hence an error
of at most 0.8 %. Sum, count and maximum are exact. Nothing is clipped: any 63-bit value has one of the 3,712 buckets.

**Coordinated omission.** While something stalls, what would have come meanwhile is not even submitted, so the stall is
recorded once instead of once per frame that it would have delayed. :meth:`Histogram.corrected` adds what is missing
(Tene's ``copyCorrectedForCoordinatedOmission``): for a value v above the expected interval I also v - I, v - 2I, ...
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

_BITS = 6
_SUB = 1 << _BITS  # sub-buckets per octave


def bucket_of(value: int) -> int:
    """Where a value is counted."""
    octave = value.bit_length() - 1 - _BITS
    if octave <= 0:
        return value
    return _SUB * octave + (value >> octave)


BUCKETS: Final = bucket_of((1 << 63) - 1) + 1
"""How many there are."""


def buckets_of(values: Int64Array) -> Int64Array:
    """Where each of many values is counted."""
    octaves = np.maximum(np.frexp(values.astype(np.float64))[1] - (_BITS + 1), 0)
    # Rounding to a float may have lifted a value just below a power of two to it.
    octaves -= (octaves > 0) & (values >> (octaves + _BITS) == 0)
    found: Int64Array = (octaves << _BITS) + (values >> octaves)
    return found


def bucket_start(bucket: int) -> int:
    """The least value that is counted in a bucket: it reaches up to the start of the next."""
    if bucket < 2 * _SUB:
        return bucket
    octave = bucket // _SUB - 1
    return (bucket - _SUB * octave) << octave


def _middle(bucket: int) -> int:
    return bucket_start(bucket) + (1 << max(0, bucket // _SUB - 1)) // 2


def starts_of(buckets: Int64Array) -> Int64Array:
    """:func:`bucket_start` of many."""
    octaves = np.maximum((buckets >> _BITS) - 1, 0)
    found: Int64Array = (buckets - (octaves << _BITS)) << octaves
    return found


def middles_of(buckets: Int64Array) -> Int64Array:
    """What many values are taken for, by where they are counted."""
    octaves = np.maximum((buckets >> _BITS) - 1, 0)
    found: Int64Array = ((buckets - (octaves << _BITS)) << octaves) + (np.left_shift(1, octaves) >> 1)
    return found


def ranks_of(counts: Int64Array, percents: Sequence[float]) -> Int64Array:
    """Which of so many values (any shape) each percentile is (inverted CDF), from 1; one more axis."""
    # In the very arithmetic of numpy.percentile(method="inverted_cdf"): its rounding decides between neighbours.
    shares = np.array([percent / 100 for percent in percents])
    found: Int64Array = np.maximum(np.ceil(counts[..., None] * shares), 1).astype(np.int64)
    return found


@lru_cache(16)
def last_buckets(bounds: tuple[int, ...]) -> Int64Array:
    """For each of them the last bucket whose middle is not above it."""
    buckets = np.array([bucket_of(bound) for bound in bounds], np.int64)
    return buckets - (middles_of(buckets) > np.array(bounds, np.int64))


_ALONE: Final = 2 * _SUB
"""Below so many intervals a bucket is narrower than an interval."""
_Added = tuple[Int64Array, Int64Array, Int64Array | int]
"""Which of the values something is added for, in which bucket, and how many times."""


def _near(values: Int64Array, intervals: Int64Array, omitted: Int64Array) -> _Added:
    """The last values - k * interval, one by one: no two of them share a bucket."""
    alone = np.minimum(omitted, _ALONE)
    rows, before = _repeated(alone)
    return rows, buckets_of(values[rows] - (omitted[rows] - before) * intervals[rows]), 1


def _far(values: Int64Array, intervals: Int64Array, omitted: Int64Array) -> _Added:
    """All before them, bucket by bucket: few, however long the stall."""
    count: Int64Array = np.maximum(omitted - _ALONE, 0)
    first, last = buckets_of(values - count * intervals), buckets_of(values - intervals)
    rows, after = _repeated(np.where(count, last - first + 1, 0))
    at = first[rows] + after
    # As many as are not below its start, less those that are not below the next one's.
    ends = [((values[rows] - starts_of(each)) // intervals[rows]).clip(0, count[rows]) for each in (at, at + 1)]
    return rows, at, ends[0] - ends[1]


def _repeated(times: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Each row so many times, and how many of it come before."""
    rows = np.repeat(np.arange(times.size), times)
    return rows, np.arange(rows.size) - (times.cumsum() - times)[rows]


class Histogram:
    """Counts of non-negative integers (nanoseconds). Not locked: one writer, or the caller's lock."""

    __slots__ = ("_counts", "count", "maximum", "total")

    def __init__(self) -> None:
        self._counts = _NONE  # by bucket, once there is something to count: 30 kB
        self.count = 0
        self.total = 0
        self.maximum = 0

    @classmethod
    def of(cls, counts: Int64Array, total: int, maximum: int) -> Histogram:
        """The one with ``counts`` by bucket, of which sum and maximum are known. It takes the array, no copy."""
        histogram = cls()
        histogram._counts, histogram.count = counts, int(counts.sum())
        histogram.total, histogram.maximum = total, maximum
        return histogram

    def record(self, value: int) -> None:
        """Add one value. Negative values are a fault of the caller and raise ValueError."""
        if value < 0:
            raise ValueError(f"a duration cannot be negative: {value}")
        self._make_room()
        self._counts[bucket_of(value)] += 1
        self.count += 1
        self.total += value
        self.maximum = max(self.maximum, value)

    def record_all(self, values: Int64Array) -> None:
        """Add many values at once, none of which is negative."""
        if values.size:
            self.record_counted(buckets_of(values), int(values.sum()), int(values.max()))

    def record_counted(self, buckets: Int64Array, total: int, maximum: int) -> None:
        """Add values of which it is known where each is counted, their sum and the largest."""
        self._make_room()
        np.add.at(self._counts, buckets, 1)
        self.count += buckets.size
        self.total += total
        self.maximum = max(self.maximum, maximum)

    def merge(self, other: Histogram) -> None:
        """Add all values of ``other``; merging is associative and commutative."""
        if other.count:
            self._make_room()
            self._counts += other._counts
            self.count += other.count
            self.total += other.total
            self.maximum = max(self.maximum, other.maximum)

    def at_most(self, bounds: tuple[int, ...]) -> list[int]:
        """How many values lie at or below each bound. One counts as its bucket's middle; the histogram must not be
        empty."""
        found: list[int] = self._counts.cumsum()[last_buckets(bounds)].tolist()
        return found

    def used(self) -> tuple[Int64Array, Int64Array]:
        """The buckets in use, ascending, and how many values lie in each."""
        used = (self._counts != 0).nonzero()[0]  # of int64 as such it takes five times as long
        return used, self._counts[used]

    def sparse(self) -> tuple[list[int], list[int]]:
        """The same as lists."""
        used, counts = self.used()
        return used.tolist(), counts.tolist()

    def percentile(self, percent: float) -> int | None:
        """The value below or at which ``percent`` % of the values lie (inverted CDF), or None when empty."""
        return self.percentiles((percent,))[0] if self.count else None

    def percentiles(self, percents: Sequence[float]) -> list[int]:
        """Several percentiles in one pass; the histogram must not be empty."""
        # In the very arithmetic of numpy.percentile(method="inverted_cdf"): its rounding decides between neighbours.
        ranks = [max(1, math.ceil(self.count * (percent / 100))) for percent in percents]
        used, counts = self.used()
        buckets = used[counts.cumsum().searchsorted(ranks)].tolist()
        return [min(_middle(bucket), self.maximum) for bucket in buckets]

    def corrected(self, interval_ns: int) -> Histogram:
        """A copy that also holds what coordinated omission kept out; ``interval_ns``: how often a frame was to come.

        Added values are worked out from the middles of buckets, so count and sum are as exact as a percentile is.
        """
        return self.corrected_each([self], [interval_ns])[0]

    @staticmethod
    def corrected_each(many: Sequence[Histogram], intervals_ns: Sequence[int]) -> list[Histogram]:
        """The same of each of ``many``, with an interval of its own."""
        found = [Histogram() for _ in many]
        columns = [np.zeros((4, 0), np.int64)]
        for number, (each, whole, interval_ns) in enumerate(zip(many, found, intervals_ns, strict=True)):
            whole.merge(each)
            if 0 < interval_ns < each.maximum:
                used, counts = each.used()
                values, same = np.minimum(middles_of(used), each.maximum), np.ones_like(used)
                columns.append(np.array([number * same, values, counts, interval_ns * same]))
        # Whose each value is, the value, how many there are of it, the interval
        owners, values, counts, intervals = np.concatenate(columns, axis=1)
        omitted = np.maximum(values - 1, 0) // intervals  # the values value - k * interval > 0
        sums = omitted * values.astype(np.float64) - intervals * (omitted * (omitted + 1.0) / 2)
        added = np.bincount(owners, omitted * counts, len(many)), np.bincount(owners, sums * counts, len(many))
        more = np.zeros((len(many), BUCKETS), np.int64)
        for rows, at, times in (_near(values, intervals, omitted), _far(values, intervals, omitted)):
            np.add.at(more, (owners[rows], at), times * counts[rows])
        for whole, own, count, total in zip(found, more, *(each.tolist() for each in added), strict=True):
            if count:
                whole._counts += own
                whole.count += int(count)
                whole.total += round(total)
        return found

    @property
    def mean(self) -> float | None:
        """Exact arithmetic mean, or None when empty."""
        return self.total / self.count if self.count else None

    def _make_room(self) -> None:
        if self._counts is _NONE:
            self._counts = np.zeros(BUCKETS, np.int64)


_NONE: Final = np.zeros(0, np.int64)
