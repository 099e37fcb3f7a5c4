# SPDX-License-Identifier: Apache-2.0
"""How long the frames of one stream took: stage by stage, place by place where they waited, and in all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pipeline.ledger.blocks import SERIES, Block, Column
from pipeline.timing import STAGES, WAITS, DurationJitter, Histogram

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


class Distribution:
    """A histogram of durations and the jitter between successive ones."""

    __slots__ = ("_filter", "histogram", "jitter_ns")

    def __init__(self) -> None:
        self.histogram = Histogram()
        self._filter = DurationJitter()
        self.jitter_ns = 0.0

    def record(self, duration_ns: int) -> None:
        """Add one duration."""
        self.histogram.record(duration_ns)
        self._filter.record(duration_ns)
        self.jitter_ns = self._filter.value_ns

    def add(self, column: Column) -> None:
        """Add successive durations."""
        self.histogram.add(*column)
        self._filter.record_all(column.values)
        self.jitter_ns = self._filter.value_ns

    def merge(self, other: Distribution) -> None:
        """Add another stream's durations; jitter becomes the mean weighted by count."""
        count = self.histogram.count + other.histogram.count
        if count:
            self.jitter_ns = (self.jitter_ns * self.histogram.count + other.jitter_ns * other.histogram.count) / count
        self.histogram.merge(other.histogram)

    def as_dict(self) -> dict[str, Any] | None:
        """STATS of the report in milliseconds, or None when nothing was recorded."""
        figures = stats(self.histogram)
        return None if figures is None else figures | {"jitter_ms": milliseconds(self.jitter_ns)}


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


class Latency:
    """Distributions of one stream, or of several merged, by series (:data:`pipeline.ledger.blocks.SERIES`).

    ``queue`` is the sum of the waits, so that the stages of a frame sum exactly to its end-to-end time. Not locked.
    """

    def __init__(self) -> None:
        self.series: dict[str, Distribution] = {}

    def add(self, block: Block) -> None:
        """Add finished frames."""
        for series, column in block.columns():
            self._of(series).add(column)

    def record(self, trace: list[int]) -> None:
        """Add one finished frame."""
        self.add(Block([trace]))

    def merge(self, other: Latency) -> None:
        """Add another stream's frames."""
        for series, distribution in other.series.items():
            self._of(series).merge(distribution)

    @property
    def stages(self) -> dict[str, Distribution]:
        """Those of the stages that some frame passed, in the order of the route."""
        return {stage: self.series[stage] for stage in STAGES if stage in self.series}

    @property
    def end_to_end(self) -> Distribution:
        """That of the whole way; empty where no frame has finished."""
        return self.series.get("end_to_end") or Distribution()

    def as_dict(self) -> dict[str, Any]:
        """``{"stages": {STAGE: STATS}, "waits": {PLACE: STATS}, "end_to_end": STATS | None}``."""
        return by_kind({name: distribution.as_dict() for name, distribution in self.series.items()})

    def distributions(self) -> dict[str, dict[str, list[int]]]:
        """``{series: {"buckets", "counts"}}``: what :func:`pipeline.timing.bucket_start` tells the limits of, and how
        many durations lie there. Two of one series tell how much two runs differ (:mod:`pipeline.report.smirnov`)."""
        found: dict[str, dict[str, list[int]]] = {}
        for series in SERIES:
            if series in self.series:
                buckets, counts = self.series[series].histogram.sparse()
                found[series] = {"buckets": buckets, "counts": counts}
        return found

    def _of(self, series: str) -> Distribution:
        distribution = self.series.get(series)
        if distribution is None:
            distribution = self.series[series] = Distribution()
        return distribution


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """All of them together."""
    whole = Histogram()
    for histogram in histograms:
        whole.merge(histogram)
    return whole
