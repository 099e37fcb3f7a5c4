# SPDX-License-Identifier: Apache-2.0
"""How long the frames of one stream took, stage by stage."""

from __future__ import annotations

from typing import Any

from pipeline.timing import STAGES, DurationJitter, Histogram, Mark, elapsed, stage_times


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

    def merge(self, other: Distribution) -> None:
        """Add another stream's durations; jitter becomes the mean weighted by count."""
        count = self.histogram.count + other.histogram.count
        if count:
            self.jitter_ns = (self.jitter_ns * self.histogram.count + other.jitter_ns * other.histogram.count) / count
        self.histogram.merge(other.histogram)

    def as_dict(self) -> dict[str, Any] | None:
        """STATS of the report in milliseconds, or None when nothing was recorded."""
        histogram = self.histogram
        if not histogram.count:
            return None
        p50, p90, p95, p99 = (value / 1e6 for value in histogram.percentiles((50, 90, 95, 99)))
        return {
            "count": histogram.count,
            "mean_ms": _ms(histogram.total / histogram.count / 1e6),
            "p50_ms": _ms(p50),
            "p90_ms": _ms(p90),
            "p95_ms": _ms(p95),
            "p99_ms": _ms(p99),
            "max_ms": _ms(histogram.maximum / 1e6),
            "jitter_ms": _ms(self.jitter_ns / 1e6),
        }


def _ms(value: float) -> float:
    # Nine decimals keep a mean of integer nanoseconds exact enough for the parts to sum to the whole.
    return round(value, 9)


class Latency:
    """Stage and end-to-end distributions of one stream, or of several merged. Not locked."""

    def __init__(self) -> None:
        self.stages: dict[str, Distribution] = {}
        self.end_to_end = Distribution()

    def record(self, trace: list[int]) -> None:
        """Add one finished frame. Its stage times sum exactly to its end-to-end time."""
        for stage, duration_ns in stage_times(trace, Mark.DONE).items():
            distribution = self.stages.get(stage)
            if distribution is None:
                distribution = self.stages[stage] = Distribution()
            distribution.record(duration_ns)
        self.end_to_end.record(elapsed(trace, Mark.DONE))

    def merge(self, other: Latency) -> None:
        """Add another stream's frames."""
        for stage, distribution in other.stages.items():
            self.stages.setdefault(stage, Distribution()).merge(distribution)
        self.end_to_end.merge(other.end_to_end)

    def as_dict(self) -> dict[str, Any]:
        """``{"stages": {STAGE: STATS}, "end_to_end": STATS | None}``, stages in the order of the route."""
        stages = {stage: self.stages[stage].as_dict() for stage in STAGES if stage in self.stages}
        return {"stages": stages, "end_to_end": self.end_to_end.as_dict()}
