# SPDX-License-Identifier: Apache-2.0
"""How long the frames of one stream took: stage by stage, place by place where they waited, and in all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from pipeline.ledger.blocks import SERIES, Block, Int64Array, Tally
from pipeline.measures import BUCKETS, Histogram, SmoothedChange, last_buckets, middles_of, ranks_of
from pipeline.timing import STAGES, WAITS

_PERCENTS: Final = (50, 90, 95, 99, 99.9)
ENOUGH: Final = 1000
"""A percentile of 99.9 needs so many values: of fewer it would be the maximum under another name."""


def stats(histogram: Histogram) -> dict[str, Any] | None:
    """STATS of the report in milliseconds, without jitter; None, not zeros, when nothing was recorded.

    ``p999_ms`` is None below :data:`ENOUGH` values. ``delay_variation_ms`` is p99 - p50.
    """
    if not histogram.count:
        return None
    return _stats(histogram.count, histogram.total, histogram.maximum, histogram.percentiles(_PERCENTS))


def _stats(count: int, total_ns: int, maximum_ns: int, percentiles_ns: list[int]) -> dict[str, Any]:
    """Of whole nanoseconds, whose quotient by a million needs no rounding."""
    p50, p90, p95, p99, p999 = percentiles_ns
    return {
        "count": count,
        "mean_ms": milliseconds(total_ns / count),
        "p50_ms": p50 / 1e6,
        "p90_ms": p90 / 1e6,
        "p95_ms": p95 / 1e6,
        "p99_ms": p99 / 1e6,
        "p999_ms": p999 / 1e6 if count >= ENOUGH else None,
        "max_ms": maximum_ns / 1e6,
        "delay_variation_ms": (p99 - p50) / 1e6,
    }


def of_tally(tally: Tally, only: str | None = None) -> dict[str, Any]:
    """``{"stages": {STAGE: STATS}, "waits": {PLACE: STATS}, "end_to_end": STATS | None}``, STATS without jitter; of all
    series, or of one at a tenth of the work."""
    if only is not None:
        return by_kind({only: stats(tally.histogram(only))})
    if not tally.places.size:
        return by_kind({})
    places = np.sort(tally.places)  # by series, and then by bucket: a percentile is the one at its rank
    before = tally.counts.cumsum() - tally.counts
    at = np.minimum(before[:, None] + ranks_of(tally.counts, _PERCENTS) - 1, places.size - 1)
    values = np.minimum(middles_of(places[at].astype(np.int64) % BUCKETS), tally.maxima[:, None])
    return by_kind(_of_series(tally.counts, tally.totals.tolist(), tally.maxima, values))


def _of_series(
    counts: Int64Array, totals: list[int], maxima: Int64Array, percentiles: Int64Array
) -> dict[str, dict[str, Any]]:
    each = zip(SERIES, counts.tolist(), totals, maxima.tolist(), percentiles.tolist(), strict=True)
    return {series: _stats(count, *others) for series, count, *others in each if count}


def milliseconds(value_ns: float) -> float:
    """Nine decimals keep a mean of integer nanoseconds exact enough for the parts to sum to the whole."""
    return _ms(value_ns / 1e6)


def _ms(value: float) -> float:
    return round(value, 9)


def by_kind(series: Mapping[str, Any]) -> dict[str, Any]:
    """``{"stages": {STAGE: ...}, "waits": {PLACE: ...}, "end_to_end": ...}``, each in the order of the route."""
    return {
        "stages": {stage: series[stage] for stage in STAGES if stage in series},
        "waits": {place: series[place] for place in WAITS if place in series},
        "end_to_end": series.get("end_to_end"),
    }


_ZERO: Final = np.zeros(1, np.int64)
_ROW: Final = 64
"""Buckets that are looked at together; as many as an octave has."""
assert BUCKETS % _ROW == 0


class Histograms:
    """The histograms of all series (:data:`pipeline.ledger.blocks.SERIES`) side by side, to be added to at once.

    Attributes:
        counts: (len(SERIES),) int64, how many durations each has.
        totals: their sums, nanoseconds.
    """

    def __init__(self) -> None:
        self.counts: Int64Array = np.zeros(len(SERIES), np.int64)
        self.totals = [0] * len(SERIES)  # of any size: many streams' nanoseconds of a year are too many for an int64
        self._maxima: Int64Array = np.zeros(len(SERIES), np.int64)
        self._buckets: Int64Array = np.zeros(0, np.int64)  # no memory before there is something to count
        self._rows = np.zeros(len(SERIES) * BUCKETS // _ROW, np.bool_)  # where that is: most of it is empty

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
        self._sum_up(other.counts, other.totals, other._maxima)

    def _make_room(self) -> None:
        if not self._buckets.size:
            self._buckets = np.zeros(len(SERIES) * BUCKETS, np.int64)

    def _used(self) -> tuple[Int64Array, Int64Array]:
        """The places in use, ascending, and how many durations lie in each."""
        rows = np.flatnonzero(self._rows)
        counts = self._buckets.reshape(-1, _ROW)[rows].ravel()
        used = np.flatnonzero(counts)
        return rows[used // _ROW] * _ROW + used % _ROW, counts[used]

    def _sum_up(self, counts: Int64Array, totals: list[int], maxima: Int64Array) -> None:
        self.counts += counts
        self.totals = [one + more for one, more in zip(self.totals, totals, strict=True)]
        np.maximum(self._maxima, maxima, out=self._maxima)

    def __getitem__(self, series: str) -> Histogram:
        """One of them, as long as nothing is added."""
        number = SERIES.index(series)
        buckets = self._buckets[number * BUCKETS : (number + 1) * BUCKETS]
        return Histogram.of(buckets, self.totals[number], int(self._maxima[number]))

    def percentiles(self, percents: Sequence[float]) -> Int64Array:
        """(len(SERIES), len(percents)) nanoseconds, 0 where a series has no durations."""
        used, counts = self._used()
        if not used.size:
            return np.zeros((len(SERIES), len(percents)), np.int64)
        sums = counts.cumsum()
        ranks = (self.counts.cumsum() - self.counts)[:, None] + ranks_of(self.counts, percents)
        places = used[np.minimum(np.searchsorted(sums, ranks), used.size - 1)]
        return np.minimum(middles_of(places % BUCKETS), self._maxima[:, None])

    def at_most(self, bounds_ns: tuple[int, ...]) -> Int64Array:
        """(len(SERIES), len(bounds_ns)), how many durations lie at or below each bound. One counts as its bucket's
        middle."""
        used, counts = self._used()
        sums = np.concatenate([_ZERO, counts.cumsum()])
        firsts = np.arange(len(SERIES))[:, None] * BUCKETS
        below = np.searchsorted(used, firsts + last_buckets(bounds_ns), side="right")
        found: Int64Array = sums[below] - (self.counts.cumsum() - self.counts)[:, None]
        return found

    def stats(self) -> dict[str, dict[str, Any]]:
        """STATS without jitter, by series."""
        return _of_series(self.counts, self.totals, self._maxima, self.percentiles(_PERCENTS))

    def sparse(self) -> dict[str, tuple[list[int], list[int]]]:
        """The buckets in use, ascending, and how many values lie in each, by series."""
        used, frames = self._used()
        ends = np.searchsorted(used, np.arange(1, len(SERIES) + 1) * BUCKETS).tolist()
        buckets, counts = (used % BUCKETS).tolist(), frames.tolist()
        slices = [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]
        return {name: (buckets[own], counts[own]) for name, own in zip(SERIES, slices, strict=True) if buckets[own]}


class Distribution(NamedTuple):
    """A histogram of durations and the jitter between successive ones."""

    histogram: Histogram
    jitter_ns: float

    def as_dict(self) -> dict[str, Any] | None:
        """STATS of the report in milliseconds, or None when nothing was recorded."""
        figures = stats(self.histogram)
        return None if figures is None else figures | {"jitter_ms": milliseconds(self.jitter_ns)}


class Latency:
    """Distributions of one stream, or of several merged, by series (:data:`pipeline.ledger.blocks.SERIES`).

    ``queue`` is the sum of the waits, so that the stages of a frame sum exactly to its end-to-end time. Not locked.

    Attributes:
        histograms: the durations.
        jitter_ns: (len(SERIES),) the smoothed change between successive ones.
    """

    def __init__(self) -> None:
        self.histograms = Histograms()
        self._change = SmoothedChange(len(SERIES))
        self.jitter_ns = self._change.value_ns

    @property
    def frames(self) -> int:
        """How many there were."""
        return int(self.histograms.counts[-1])

    def add(self, block: Block) -> None:
        """Add finished frames."""
        for _, tally in block.seconds:
            self.histograms.add(tally)
        self._change.add(block.durations, block.passed)
        self.jitter_ns = self._change.value_ns

    def merge(self, other: Latency) -> None:
        """Add another stream's frames; jitter becomes the mean weighted by count."""
        counts, more = self.histograms.counts.copy(), other.histograms.counts
        self.jitter_ns = (self.jitter_ns * counts + other.jitter_ns * more) / np.maximum(counts + more, 1)
        self.histograms.merge(other.histograms)

    def __getitem__(self, series: str) -> Distribution:
        """One of them, as long as nothing is added; empty where no frame passed."""
        return Distribution(self.histograms[series], float(self.jitter_ns[SERIES.index(series)]))

    @property
    def end_to_end(self) -> Distribution:
        """That of the whole way; empty where no frame has finished."""
        return self["end_to_end"]

    def as_dict(self) -> dict[str, Any]:
        """``{"stages": {STAGE: STATS}, "waits": {PLACE: STATS}, "end_to_end": STATS | None}``."""
        told = self.histograms.stats()
        for series, jitter_ns in zip(SERIES, self.jitter_ns.tolist(), strict=True):
            if series in told:
                told[series]["jitter_ms"] = milliseconds(jitter_ns)
        return by_kind(told)

    def distributions(self) -> dict[str, dict[str, list[int]]]:
        """``{series: {"buckets", "counts"}}``: what :func:`pipeline.measures.bucket_start` tells the limits of, and how
        many durations lie there. Two of one series tell how much two runs differ (:mod:`pipeline.report.smirnov`)."""
        found = self.histograms.sparse()
        return {series: {"buckets": buckets, "counts": counts} for series, (buckets, counts) in found.items()}
