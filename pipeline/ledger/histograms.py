# SPDX-License-Identifier: Apache-2.0
"""The histograms of all series of a stream side by side, and what is looked up in those of many streams at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from pipeline.ledger.blocks import FIRST_PLACES, SERIES, Int64Array, Tally
from pipeline.measures import BUCKETS, Histogram, last_buckets, middles_of, ranks_of

_ZERO: Final = np.zeros(1, np.int64)
_ROW_BITS: Final = 6
_ROW: Final = 1 << _ROW_BITS
"""Buckets that are looked at together; as many as an octave has."""
assert BUCKETS % _ROW == 0
_PLACES: Final = len(SERIES) * BUCKETS


class Histograms:
    """The histograms of all series (:data:`pipeline.ledger.blocks.SERIES`) side by side, to be added to at once.

    Attributes:
        counts: (len(SERIES),) int64, how many durations each has.
        totals, maxima: their sums and the longest, nanoseconds.
    """

    def __init__(self) -> None:
        self.counts: Int64Array = np.zeros(len(SERIES), np.int64)
        self.totals = [0] * len(SERIES)  # of any size: many streams' nanoseconds of a year are too many for an int64
        self.maxima: Int64Array = np.zeros(len(SERIES), np.int64)
        self._buckets: Int64Array = np.zeros(0, np.int64)  # no memory before there is something to count
        self._rows = np.zeros(_PLACES // _ROW, np.bool_)  # where that is: most of it is empty

    def add(self, tally: Tally) -> None:
        """Add the durations of some frames."""
        self._make_room()
        np.add.at(self._buckets, tally.places, 1)
        self._rows[tally.places // _ROW] = True
        self._sum_up(tally.counts, tally.totals.tolist(), tally.maxima)

    def merge(self, other: Histograms) -> None:
        """Add all that is in ``other``."""
        if other._buckets.size:
            self._make_room()
            rows = np.flatnonzero(other._rows)
            self._buckets.reshape(-1, _ROW)[rows] += other._buckets.reshape(-1, _ROW)[rows]
            self._rows |= other._rows
        self._sum_up(other.counts, other.totals, other.maxima)

    def _make_room(self) -> None:
        if not self._buckets.size:
            self._buckets = np.zeros(_PLACES, np.int64)

    def _used(self) -> tuple[Int64Array, Int64Array]:
        """The places in use, ascending, and how many durations lie in each."""
        rows = self._rows.nonzero()[0]
        counts = self._buckets.reshape(-1, _ROW)[rows].ravel()
        used = (counts != 0).nonzero()[0]  # of int64 as such it takes five times as long
        return (rows[used >> _ROW_BITS] << _ROW_BITS) + (used & (_ROW - 1)), counts[used]

    def _sum_up(self, counts: Int64Array, totals: list[int], maxima: Int64Array) -> None:
        self.counts += counts
        self.totals = [one + more for one, more in zip(self.totals, totals, strict=True)]
        np.maximum(self.maxima, maxima, out=self.maxima)

    def __getitem__(self, series: str) -> Histogram:
        """One of them, as long as nothing is added."""
        number = SERIES.index(series)
        buckets = self._buckets[number * BUCKETS : (number + 1) * BUCKETS]
        return Histogram.of(buckets, self.totals[number], int(self.maxima[number]))

    def percentiles(self, percents: Sequence[float]) -> Int64Array:
        """(len(SERIES), len(percents)) nanoseconds, 0 where a series has no durations."""
        found: Int64Array = Snapshot([self]).percentiles(percents)[0]
        return found

    def at_most(self, bounds_ns: tuple[int, ...]) -> Int64Array:
        """(len(SERIES), len(bounds_ns)), how many durations lie at or below each bound. One counts as its bucket's
        middle."""
        found: Int64Array = Snapshot([self]).at_most(bounds_ns)[0]
        return found


class Snapshot:
    """What is looked up in several :class:`Histograms` at once: of fifty streams at a fraction of what it costs one by
    one. It shows them as they were when it was made."""

    def __init__(self, many: Sequence[Histograms]) -> None:
        self._each = found = [each._used() for each in many]
        sizes = np.array([used.size for used, _ in found])
        self._used = np.concatenate([used for used, _ in found]) + np.repeat(np.arange(len(many)), sizes) * _PLACES
        sums = np.concatenate([_ZERO, *(counts for _, counts in found)]).cumsum()
        self._sums: Int64Array = sums  # frames before each place in use, and in all
        self.counts: Int64Array = np.array([each.counts for each in many])
        self.maxima: Int64Array = np.array([each.maxima for each in many])
        self._before = (self.counts.ravel().cumsum() - self.counts.ravel()).reshape(self.counts.shape)

    def percentiles(self, percents: Sequence[float]) -> Int64Array:
        """(len(many), len(SERIES), len(percents)) nanoseconds, 0 where a series has no durations."""
        if not self._used.size:
            return np.zeros((*self.counts.shape, len(percents)), np.int64)
        ranks = self._before[..., None] + ranks_of(self.counts, percents)
        at = np.minimum(np.searchsorted(self._sums[1:], ranks), self._used.size - 1)
        return np.minimum(middles_of(self._used[at] % BUCKETS), self.maxima[..., None])

    def at_most(self, bounds_ns: tuple[int, ...]) -> Int64Array:
        """(len(many), len(SERIES), len(bounds_ns)), see :meth:`Histograms.at_most`."""
        firsts = np.arange(self.counts.size).reshape(self.counts.shape) * BUCKETS
        below = np.searchsorted(self._used, firsts[..., None] + last_buckets(bounds_ns), side="right")
        found: Int64Array = self._sums[below] - self._before[..., None]
        return found

    def sparse(self) -> list[dict[str, tuple[list[int], list[int]]]]:
        """Of each, the buckets in use, ascending, and how many values lie in each, by series."""
        return [_sparse(used, counts) for used, counts in self._each]


def _sparse(used: Int64Array, frames: Int64Array) -> dict[str, tuple[list[int], list[int]]]:
    ends = [*used.searchsorted(FIRST_PLACES).tolist(), used.size]
    buckets, counts = (used - FIRST_PLACES.repeat(np.diff(ends))).tolist(), frames.tolist()
    each = zip(SERIES, pairwise(ends), strict=True)
    return {name: (buckets[first:end], counts[first:end]) for name, (first, end) in each if first < end}
