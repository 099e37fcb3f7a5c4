# SPDX-License-Identifier: Apache-2.0
"""How long the frames of one stream took: stage by stage, place by place where they waited, and in all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from pipeline.ledger.blocks import SERIES, Block, Int64Array, Tally
from pipeline.measures import BUCKETS, Histogram, SmoothedChange
from pipeline.timing import STAGES, WAITS

ENOUGH: Final = 1000
"""A percentile of 99.9 needs so many values: of fewer it would be the maximum under another name."""


def stats(histogram: Histogram) -> dict[str, Any] | None:
    """STATS of the report in milliseconds, without jitter; None, not zeros, when nothing was recorded.

    ``p999_ms`` is None below :data:`ENOUGH` values. ``delay_variation_ms`` is p99 - p50.
    """
    if not histogram.count:
        return None
    p50, p90, p95, p99, p999 = (value / 1e6 for value in histogram.percentiles((50, 90, 95, 99, 99.9)))
    return {
        "count": histogram.count,
        "mean_ms": milliseconds(histogram.total / histogram.count),
        "p50_ms": _ms(p50),
        "p90_ms": _ms(p90),
        "p95_ms": _ms(p95),
        "p99_ms": _ms(p99),
        "p999_ms": _ms(p999) if histogram.count >= ENOUGH else None,
        "max_ms": milliseconds(histogram.maximum),
        "delay_variation_ms": _ms(p99 - p50),
    }


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


class Histograms:
    """The histograms of all series (:data:`pipeline.ledger.blocks.SERIES`) side by side, to be added to at once.

    Attributes:
        counts: (len(SERIES),) int64, how many durations each has.
    """

    def __init__(self) -> None:
        self.counts: Int64Array = np.zeros(len(SERIES), np.int64)
        self._totals = [0] * len(SERIES)  # of any size: many streams' nanoseconds of a year are too many for an int64
        self._maxima: Int64Array = np.zeros(len(SERIES), np.int64)
        self._buckets: Int64Array = np.zeros(0, np.int64)  # no memory before there is something to count

    @classmethod
    def of(cls, tallies: Iterable[Tally]) -> Histograms:
        """Of all these."""
        histograms = cls()
        for tally in tallies:
            if tally.places.size:
                histograms.add(tally)
        return histograms

    def add(self, tally: Tally) -> None:
        """Add the durations of some frames."""
        if not self._buckets.size:
            self._buckets = np.zeros(len(SERIES) * BUCKETS, np.int64)
        np.add.at(self._buckets, tally.places, 1)
        self._sum_up(tally.counts, tally.totals.tolist(), tally.maxima)

    def merge(self, other: Histograms) -> None:
        """Add all that is in ``other``."""
        if not self._buckets.size:
            self._buckets = other._buckets.copy()
        elif other._buckets.size:
            self._buckets += other._buckets
        self._sum_up(other.counts, other._totals, other._maxima)

    def _sum_up(self, counts: Int64Array, totals: list[int], maxima: Int64Array) -> None:
        self.counts += counts
        self._totals = [one + more for one, more in zip(self._totals, totals, strict=True)]
        np.maximum(self._maxima, maxima, out=self._maxima)

    def __getitem__(self, series: str) -> Histogram:
        """One of them, as long as nothing is added."""
        number = SERIES.index(series)
        buckets = self._buckets[number * BUCKETS : (number + 1) * BUCKETS]
        return Histogram.of(buckets, self._totals[number], int(self._maxima[number]))

    def present(self) -> list[str]:
        """The series that some frame passed, in the order of the route."""
        return [series for series, count in zip(SERIES, self.counts.tolist(), strict=True) if count]

    def as_dict(self) -> dict[str, Any]:
        """``{"stages": {STAGE: STATS}, "waits": {PLACE: STATS}, "end_to_end": STATS | None}``, STATS without jitter."""
        return by_kind({series: stats(self[series]) for series in self.present()})


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
    """

    def __init__(self) -> None:
        self.histograms = Histograms()
        self._change = SmoothedChange(len(SERIES))
        self._jitter_ns = self._change.value_ns

    @property
    def frames(self) -> int:
        """How many there were."""
        return int(self.histograms.counts[-1])

    def add(self, block: Block) -> None:
        """Add finished frames."""
        for _, tally in block.seconds:
            self.histograms.add(tally)
        self._change.add(block.durations, block.passed)
        self._jitter_ns = self._change.value_ns

    def merge(self, other: Latency) -> None:
        """Add another stream's frames; jitter becomes the mean weighted by count."""
        counts, more = self.histograms.counts.copy(), other.histograms.counts
        self._jitter_ns = (self._jitter_ns * counts + other._jitter_ns * more) / np.maximum(counts + more, 1)
        self.histograms.merge(other.histograms)

    def __getitem__(self, series: str) -> Distribution:
        """One of them, as long as nothing is added; empty where no frame passed."""
        return Distribution(self.histograms[series], float(self._jitter_ns[SERIES.index(series)]))

    @property
    def stages(self) -> dict[str, Distribution]:
        """Those of the stages that some frame passed, in the order of the route."""
        return {series: self[series] for series in self.histograms.present() if series in STAGES}

    @property
    def end_to_end(self) -> Distribution:
        """That of the whole way; empty where no frame has finished."""
        return self["end_to_end"]

    def as_dict(self) -> dict[str, Any]:
        """``{"stages": {STAGE: STATS}, "waits": {PLACE: STATS}, "end_to_end": STATS | None}``."""
        return by_kind({series: self[series].as_dict() for series in self.histograms.present()})

    def distributions(self) -> dict[str, dict[str, list[int]]]:
        """``{series: {"buckets", "counts"}}``: what :func:`pipeline.measures.bucket_start` tells the limits of, and how
        many durations lie there. Two of one series tell how much two runs differ (:mod:`pipeline.report.smirnov`)."""
        found: dict[str, dict[str, list[int]]] = {}
        for series in self.histograms.present():
            buckets, counts = self.histograms[series].sparse()
            found[series] = {"buckets": buckets, "counts": counts}
        return found
