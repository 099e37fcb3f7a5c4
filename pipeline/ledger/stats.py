# SPDX-License-Identifier: Apache-2.0
"""How long the frames of one stream took: stage by stage, place by place where they waited, and in all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from pipeline.ledger.blocks import NOTHING, SERIES, WHOLE_WAY, Block, FloatArray, Int64Array, Tally
from pipeline.ledger.histograms import Histograms, Snapshot
from pipeline.ledger.windows import Whole
from pipeline.measures import BUCKETS, Histogram, SmoothedChange, middles_of, ranks_of
from pipeline.timing import STAGES, WAITS

_ZERO: Final = np.zeros(1, np.int64)
Distributions = dict[str, dict[str, list[int]]]
"""``{series: {"buckets", "counts"}}``: what :func:`pipeline.measures.bucket_start` tells the limits of, and how many
durations lie there. Two of one series tell how much two runs differ (:mod:`pipeline.report.smirnov`)."""

_PERCENTS: Final = (50, 90, 95, 99, 99.9)
DECIMALS: Final = 9
"""Of milliseconds: they keep a mean of integer nanoseconds exact enough for the parts to sum to the whole."""
ENOUGH: Final = 1000
"""A percentile of 99.9 needs so many values: of fewer it would be the maximum under another name."""


def stats(histogram: Histogram) -> dict[str, Any] | None:
    """STATS of the report in milliseconds, without jitter; None, not zeros, when nothing was recorded.

    ``p999_ms`` is None below :data:`ENOUGH` values. ``delay_variation_ms`` is p99 - p50.
    """
    if not histogram.count:
        return None
    percentiles = histogram.percentiles(_PERCENTS)
    values = (*percentiles, histogram.maximum, percentiles[3] - percentiles[0])
    return _told(histogram.count, histogram.total, [value / 1e6 for value in values])


def of_histograms(many: Sequence[Histogram | None]) -> list[dict[str, Any] | None]:
    """The same of each, looked up at once: fifty streams have two hundred."""
    each = [Histogram() if one is None else one for one in many]
    used = [one.used() for one in each]
    buckets = np.concatenate([_ZERO, *(own for own, _ in used)])  # a first one, so that there is always one
    sums = np.concatenate([_ZERO, *(own for _, own in used)]).cumsum()
    counts, maxima = [one.count for one in each], np.array([one.maximum for one in each], np.int64)
    ranks = ranks_of(np.array(counts, np.int64), _PERCENTS) + (np.cumsum(counts) - counts)[:, None]
    at = np.minimum(sums.searchsorted(ranks), buckets.size - 1)
    percentiles = np.minimum(middles_of(buckets[at]), maxima[:, None])
    return _stats(counts, [one.total for one in each], maxima, percentiles)


def _stats(
    counts: Sequence[int], totals_ns: Sequence[int], maxima_ns: Int64Array, percentiles_ns: Int64Array
) -> list[dict[str, Any] | None]:
    """Of each of many: of fifty streams there are two thousand."""
    values = np.column_stack([percentiles_ns, maxima_ns, percentiles_ns[:, 3] - percentiles_ns[:, 0]]) / 1e6
    each = zip(counts, totals_ns, values.tolist(), strict=True)
    return [_told(count, total_ns, own) if count else None for count, total_ns, own in each]


def _told(count: int, total_ns: int, values_ms: Sequence[float]) -> dict[str, Any]:
    """``values_ms`` are whole nanoseconds, which need no rounding when they are divided by a million."""
    p50, p90, p95, p99, p999, maximum, variation = values_ms
    return {
        "count": count,
        "mean_ms": round(total_ns / count / 1e6, DECIMALS),
        "p50_ms": p50,
        "p90_ms": p90,
        "p95_ms": p95,
        "p99_ms": p99,
        "p999_ms": p999 if count >= ENOUGH else None,
        "max_ms": maximum,
        "delay_variation_ms": variation,
    }


def of_tally(tally: Tally) -> dict[str, Any]:
    """``{"stages": {STAGE: STATS}, "waits": {PLACE: STATS}, "end_to_end": STATS | None}``, STATS without jitter."""
    return of_tallies([tally])[0]


def of_tallies(many: Sequence[Tally]) -> list[dict[str, Any]]:
    """The same of each."""
    # By series, and then by bucket: a percentile is the one at its rank. Sorted together it would take longer.
    places = np.concatenate([np.sort(tally.places) for tally in (NOTHING, *many)])
    counts, maxima = _stacked([tally.counts for tally in many]), _stacked([tally.maxima for tally in many])
    before = (counts.ravel().cumsum() - counts.ravel()).reshape(counts.shape)
    at = np.minimum(before[..., None] + ranks_of(counts, _PERCENTS) - 1, places.size - 1)
    middles = middles_of(places[at].astype(np.int64) % BUCKETS) if places.size else np.zeros(at.shape, np.int64)
    return _of_series(counts, [tally.totals.tolist() for tally in many], maxima, np.minimum(middles, maxima[..., None]))


def of_latencies(many: Sequence[Latency]) -> tuple[list[dict[str, Any]], list[Distributions]]:
    """The same of each, with jitter, and their distributions."""
    if not many:
        return [], []
    snapshot = Snapshot([each.histograms for each in many])
    figures = _of_series(
        snapshot.counts,
        [each.histograms.totals for each in many],
        snapshot.maxima,
        snapshot.percentiles(_PERCENTS),
        [each.jitter_ns for each in many],
    )
    return figures, [
        {series: {"buckets": buckets, "counts": counts} for series, (buckets, counts) in each.items()}
        for each in snapshot.sparse()
    ]


def of_whole(many: Sequence[Whole]) -> list[dict[str, Any] | None]:
    """STATS of each, without jitter; None where nothing was recorded."""
    counts, maxima = np.array([(each.frames, each.maximum) for each in many], np.int64).reshape(-1, 2).T
    places = np.concatenate([NOTHING.places, *[piece for each in many for piece in each.places]])
    buckets = places[places >= WHOLE_WAY].astype(np.int64) - WHOLE_WAY
    places = np.sort(np.repeat(np.arange(len(many)), counts) * BUCKETS + buckets)
    at = (counts.cumsum() - counts)[:, None] + ranks_of(counts, _PERCENTS) - 1
    found = (
        middles_of(places[np.minimum(at, places.size - 1)] % BUCKETS) if places.size else np.zeros(at.shape, np.int64)
    )
    values = np.minimum(found, maxima[:, None])
    return _stats(counts.tolist(), [each.total for each in many], maxima, values)


def _of_series(
    counts: Int64Array,
    totals: Sequence[Sequence[int]],
    maxima: Int64Array,
    percentiles: Int64Array,
    jitter_ns: Sequence[FloatArray] | None = None,
) -> list[dict[str, Any]]:
    """By stream (the first axis) and series (the second), nanoseconds."""
    all_totals = [total for own in totals for total in own]
    all_of_it = _stats(counts.ravel().tolist(), all_totals, maxima.ravel(), percentiles.reshape(-1, len(_PERCENTS)))
    if jitter_ns:
        jitter_ms = np.round(np.concatenate(jitter_ns) / 1e6, DECIMALS).tolist()
        for told, value_ms in zip(all_of_it, jitter_ms, strict=True):
            if told is not None:
                told["jitter_ms"] = value_ms
    return [_by_kind(all_of_it[first : first + len(SERIES)]) for first in range(0, len(all_of_it), len(SERIES))]


def _by_kind(figures: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """``{"stages": {STAGE: ...}, "waits": {PLACE: ...}, "end_to_end": ...}``, each in the order of the route."""
    told = {series: each for series, each in zip(SERIES, figures, strict=True) if each is not None}
    return {
        "stages": {stage: told[stage] for stage in STAGES if stage in told},
        "waits": {place: told[place] for place in WAITS if place in told},
        "end_to_end": told.get("end_to_end"),
    }


def _stacked(rows: Sequence[Int64Array]) -> Int64Array:
    return np.array(rows, np.int64).reshape(len(rows), len(SERIES))


def milliseconds(value_ns: float) -> float:
    """Rounded to :data:`DECIMALS`."""
    return round(value_ns / 1e6, DECIMALS)


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

    @staticmethod
    def add_each(many: Sequence[Latency], block: Block) -> None:
        """Add finished frames of each of ``many``, the block's streams."""
        for each, tally in zip(many, block.tallies, strict=True):
            each.histograms.add(tally)
        SmoothedChange.add_each([each._change for each in many], block.durations, block.passed, block.firsts)
        for each in many:
            each.jitter_ns = each._change.value_ns

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
        return of_latencies([self])[0][0]
