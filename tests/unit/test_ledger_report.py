# SPDX-License-Identifier: Apache-2.0
"""A report looks everything up of all streams at once; it says to the last digit what each value by itself would."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import orjson
import pytest

from benchmarks.answers import MS, Run, S
from pipeline.ledger.late import Late
from pipeline.measures import bucket_of, bucket_start
from pipeline.timing import STAGES, Mark, elapsed, part_times, stage_times

STREAMS = 3
SECONDS = 75


class Seen(Run):
    """It remembers the journeys of all frames."""

    def __init__(self) -> None:
        super().__init__(STREAMS, 15.0, seed=7)
        self.finished: dict[str, list[list[int]]] = defaultdict(list)
        self.lost: dict[str, list[list[int]]] = defaultdict(list)
        for name, account in self.ledger.streams.items():
            finished, lost = account.finished, account.lost

            def finish(trace: list[int], name: str = name, done: Any = finished) -> None:
                self.finished[name].append(trace)
                done(trace)

            def lose(reason: str, trace: list[int], name: str = name, done: Any = lost) -> None:
                self.lost[name].append(trace)
                done(reason, trace)

            account.finished, account.lost = finish, lose  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def run() -> Seen:
    run = Seen()
    for _ in range(SECONDS // 5):
        run.goes_on(5)
    return run


@pytest.fixture(scope="module")
def report(run: Seen) -> dict[str, Any]:
    written: dict[str, Any] = orjson.loads(orjson.dumps(run.ledger.as_dict(run.now_ns)))
    return written


def middle(value: int) -> int:
    bucket = bucket_of(value)
    return bucket_start(bucket) + (bucket_start(bucket + 1) - bucket_start(bucket)) // 2


def told(values: list[int]) -> dict[str, Any] | None:
    """STATS, one value at a time."""
    if not values:
        return None
    ordered, count = sorted(values), len(values)

    def percentile(percent: float) -> int:
        return min(middle(ordered[max(1, math.ceil(count * (percent / 100))) - 1]), ordered[-1])

    return {
        "count": count,
        "mean_ms": round(sum(values) / count / 1e6, 9),
        **{f"p{percent}_ms": round(percentile(percent) / 1e6, 9) for percent in (50, 90, 95, 99)},
        "p999_ms": round(percentile(99.9) / 1e6, 9) if count >= 1000 else None,
        "max_ms": round(ordered[-1] / 1e6, 9),
        "delay_variation_ms": round((percentile(99) - percentile(50)) / 1e6, 9),
    }


def by_series(traces: list[list[int]]) -> dict[str, Any]:
    series: dict[str, list[int]] = defaultdict(list)
    for trace in traces:
        for name, took_ns in {**part_times(trace), **stage_times(trace), "end_to_end": elapsed(trace)}.items():
            series[name].append(took_ns)
    figures = {name: told(values) for name, values in series.items()}
    whole = figures.pop("end_to_end", None)
    stages = {name: figures.pop(name) for name in STAGES if name in figures}
    return {"stages": stages, "waits": figures, "end_to_end": whole}


def without_jitter(figures: dict[str, Any]) -> dict[str, Any]:
    def bare(stats: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in stats.items() if key != "jitter_ms"}

    kinds = {kind: {name: bare(stats) for name, stats in figures[kind].items()} for kind in ("stages", "waits")}
    return {**kinds, "end_to_end": figures["end_to_end"] and bare(figures["end_to_end"])}


def test_distributions_of_each_stream_and_of_all(run: Seen, report: dict[str, Any]) -> None:
    assert len(run.finished) == STREAMS
    for name, traces in run.finished.items():
        assert without_jitter(report["streams"][name]) == by_series(traces)
    everything = [trace for traces in run.finished.values() for trace in traces]
    assert without_jitter(report["total"]) == by_series(everything)
    counted = report["total"]["distributions"]["end_to_end"]
    buckets = [bucket_of(elapsed(trace)) for trace in everything]
    assert dict(zip(counted["buckets"], counted["counts"], strict=True)) == {one: buckets.count(one) for one in buckets}


@pytest.mark.parametrize("span_s", [10, 60])
def test_what_was_lately(run: Seen, report: dict[str, Any], span_s: int) -> None:
    after = run.now_ns // S - span_s
    for name, traces in run.finished.items():
        lately = [trace for trace in traces if max(trace[: len(Mark)]) // S > after]
        assert 0 < len(lately) < len(traces)
        assert report["streams"][name]["windows"][f"{span_s}s"] == by_series(lately)


def test_what_stands_alone(run: Seen, report: dict[str, Any]) -> None:
    for name, traces in run.finished.items():
        told_of = report["streams"][name]
        assert told_of["dropped_after"] == told([elapsed(trace) for trace in run.lost[name]])
        interval_ns = round(told_of["end_to_end_corrected"]["interval_ms"] * 1e6)
        assert interval_ns == pytest.approx(S / 15, rel=0.01)
        took = [elapsed(trace) for trace in traces]
        added = [more for value in took for more in range(min(middle(value), max(took)) - interval_ns, 0, -interval_ns)]
        assert added, "some frames took longer than an interval"
        corrected = told([*took, *added])
        assert corrected is not None
        assert told_of["end_to_end_corrected"] == {"interval_ms": interval_ns / 1e6, **corrected}


def test_slow_frames_are_rounded_to_the_nanosecond(run: Seen, report: dict[str, Any]) -> None:
    for name, account in run.ledger.streams.items():
        slowest: list[Late] = account.times.lateness().slowest
        assert slowest
        for late, written in zip(slowest, report["streams"][name]["slow_frames"], strict=True):
            assert written["end_to_end_ms"] == round(late.took_ns / 1e6, 6)
            assert written["parts_ms"] == {part: round(took_ns / 1e6, 6) for part, took_ns in late.parts.items()}
            assert late.took_ns > 50 * MS
