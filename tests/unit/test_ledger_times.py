# SPDX-License-Identifier: Apache-2.0
"""Distributions of many frames, of the whole run and of lately: against numpy, and to the nanosecond."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.ledger import Ledger, StreamLedger
from pipeline.ledger.blocks import SERIES, Block, together
from pipeline.ledger.histograms import Histograms, Snapshot
from pipeline.ledger.stats import ENOUGH, Latency, of_tally, stats
from pipeline.ledger.times import BLOCK, StreamTimes
from pipeline.ledger.windows import SPANS
from pipeline.measures import Histogram, bucket_of, bucket_start, buckets_of
from pipeline.timing import PARTS, WAITS, Mark, elapsed, ended_in, new_trace, part_times, stage_times
from tests.ledgers import whole_way

MS = 1_000_000
S = 1_000_000_000


@st.composite
def traces(draw: st.DrawFn) -> list[int]:
    """A journey with any gaps, over any marks."""
    trace = new_trace()
    at = draw(st.integers(1, 2**40))
    trace[Mark.READ] = at
    for mark in list(Mark)[1:]:
        at += draw(st.integers(0, 2**50))
        trace[mark] = at if draw(st.booleans()) else 0
    return trace


@given(st.lists(traces(), min_size=1, max_size=30))
def test_a_block_is_its_frames_one_by_one(some: list[list[int]]) -> None:
    block = Block(some)
    for number, trace in enumerate(some):
        parts = {place: time for place, time in part_times(trace).items() if place in WAITS}
        expected = {**stage_times(trace), **parts, "end_to_end": elapsed(trace)}
        passed, took = block.passed[number].tolist(), block.durations[number].tolist()
        assert {series for series, here in zip(SERIES, passed, strict=True) if here} == set(expected)
        assert took == [expected.get(series, 0) for series in SERIES]
        assert sum(parts.values()) == stage_times(trace).get("queue", 0)
        assert sum(part_times(trace).values()) == elapsed(trace)


@given(st.lists(traces(), min_size=1, max_size=30))
def test_its_tallies_hold_every_duration_once_in_the_second_of_its_end(some: list[list[int]]) -> None:
    block = Block(some)
    seconds = [second for second, _ in block.seconds[0]]
    assert seconds == sorted({max(trace[: len(Mark)]) // S for trace in some})
    for second, tally in block.seconds[0]:
        rows = [number for number, trace in enumerate(some) if max(trace[: len(Mark)]) // S == second]
        for number, series in enumerate(SERIES):
            alone = Histogram()
            for took in block.durations[rows, number][block.passed[rows, number]].tolist():
                alone.record(took)
            added = Histograms()
            added.add(tally)
            found = (tally.histogram(series), added[series])
            for one in found:
                assert (one.sparse(), one.count) == (alone.sparse(), alone.count)
                assert (one.total, one.maximum) == (alone.total, alone.maximum)


@given(st.lists(traces(), min_size=1, max_size=30), st.lists(st.integers(0, 2**40), min_size=1, max_size=10))
def test_figures_of_all_series_are_those_of_each(some: list[list[int]], bounds: list[int]) -> None:
    latency, block = Latency(), Block(some)
    Latency.add_each([latency], block)
    histograms, limits = latency.histograms, tuple(sorted(bounds))
    percentiles, at_most = histograms.percentiles((50, 99)).tolist(), histograms.at_most(limits).tolist()
    (sparse,) = Snapshot([histograms]).sparse()
    lately = together(tally for _, tally in block.seconds[0])
    told, of_window = latency.as_dict(), of_tally(lately)
    for number, series in enumerate(SERIES):
        alone = histograms[series]
        assert sparse.get(series, ([], [])) == alone.sparse()
        if not alone.count:
            assert (percentiles[number], at_most[number]) == ([0, 0], [0] * len(limits))
            continue
        assert percentiles[number] == alone.percentiles((50, 99))
        seen_as = [
            middle for bucket, count in zip(*alone.sparse(), strict=True) for middle in [middle_of(bucket)] * count
        ]
        assert at_most[number] == [sum(middle <= bound for middle in seen_as) for bound in limits]
        place = {**told["stages"], **told["waits"], "end_to_end": told["end_to_end"]}[series]
        assert place == stats(alone) | {"jitter_ms": place["jitter_ms"]}
        assert {**of_window["stages"], **of_window["waits"], "end_to_end": of_window["end_to_end"]}[series] == stats(
            alone
        )


def middle_of(bucket: int) -> int:
    """Of a bucket, by what :func:`bucket_start` says of it and the next."""
    return (bucket_start(bucket) + bucket_start(bucket + 1)) // 2


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=50))
def test_buckets_worked_out_together_are_those_worked_out_alone(took: list[int]) -> None:
    near = [max(0, 2 ** (value.bit_length()) + off) for value in took for off in (-1, 0, 1) if value.bit_length() < 62]
    assert buckets_of(np.array(took + near, np.int64)).tolist() == [bucket_of(value) for value in took + near]


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300))
def test_statistics_agree_with_numpy(took: list[int]) -> None:
    latency = Latency()
    Latency.add_each([latency], Block([whole_way(10**13, value) for value in took]))
    figures = latency.end_to_end.as_dict()
    assert figures is not None
    for key, percent in (("p50_ms", 50), ("p90_ms", 90), ("p95_ms", 95), ("p99_ms", 99)):
        exact = float(np.percentile(took, percent, method="inverted_cdf")) / 1e6
        assert figures[key] == pytest.approx(exact, rel=0.01, abs=1e-9)
    assert figures["max_ms"] == max(took) / 1e6
    assert figures["mean_ms"] == pytest.approx(sum(took) / len(took) / 1e6, rel=1e-12, abs=1e-9)


def test_a_percentile_of_99_9_needs_a_thousand_values() -> None:
    histogram = Histogram()
    for value in range(1, ENOUGH):
        histogram.record(value * MS)
    figures = stats(histogram)
    assert figures is not None
    assert figures["p999_ms"] is None
    histogram.record(ENOUGH * MS)
    figures = stats(histogram)
    assert figures is not None
    assert figures["p999_ms"] == pytest.approx(999, rel=0.01)
    assert stats(Histogram()) is None


class TestWindows:
    def filled(self, seconds: int) -> StreamLedger:
        """A frame at each second from the first, which took as many milliseconds."""
        account = StreamLedger("a", live=True)
        for second in range(1, seconds + 1):
            account.finished(whole_way(second * S, second * MS))
        return account

    @pytest.mark.parametrize("span_s", SPANS)
    def test_a_window_forgets_whole_seconds(self, span_s: int) -> None:
        account = self.filled(200)
        for now_s in (200, 203, 198 + span_s):
            oldest_s = now_s - span_s + 1
            figures = account.recent(now_s * S, span_s)["end_to_end"]
            took = [second for second in range(1, 201) if second >= oldest_s]
            assert (figures["count"], figures["max_ms"]) == (len(took), 200.0)
            assert figures["mean_ms"] == pytest.approx(np.mean(took))
            assert figures["p50_ms"] == pytest.approx(np.percentile(took, 50, method="inverted_cdf"), rel=0.01)
        assert account.as_dict(0)["end_to_end"]["count"] == 200

    def test_an_empty_window_has_no_numbers(self) -> None:
        account = self.filled(5)
        for span_s in (10, 60):
            assert account.recent(500 * S, span_s) == {"stages": {}, "waits": {}, "end_to_end": None}
        assert account.as_dict(0, at_ns=7 * S)["windows"]["10s"]["end_to_end"]["count"] == 5
        assert account.as_dict(0)["windows"] == {}

    def test_what_finished_late_is_put_where_it_belongs(self) -> None:
        account = self.filled(0)
        for second in (100, 30, 99, 95, 70):
            account.finished(whole_way(second * S, second * MS))
        assert account.recent(100 * S, 10)["end_to_end"]["count"] == 3
        assert account.recent(100 * S, 60)["end_to_end"]["count"] == 4
        assert account.recent(131 * S, 60)["end_to_end"]["count"] == 3

    def test_memory_does_not_grow_with_time(self) -> None:
        times = StreamTimes(looks_back=True)
        for second in range(2000):
            times.finished(whole_way(second * S + 100 * MS, 40 * MS + second % 50))
        times.measured(0)
        assert times._window is not None
        held = [len(places) for row in times._window._places for places in row]
        assert held == [len(Block([whole_way(S, MS)]).tallies[0].places)] * 60
        assert len(times._finished) == 0

    def test_recordings_as_fast_as_possible_have_no_lately(self) -> None:
        account = StreamLedger("a")
        account.finished(whole_way(S, MS))
        assert account.recent(S, 10)["end_to_end"] is None

    def test_the_whole_is_all_streams_together(self) -> None:
        ledger = Ledger()
        for name in "ab":
            ledger.streams[name] = self.filled(20)
        assert ledger.recent(20 * S, 60)["end_to_end"]["count"] == 40
        assert ledger.recent(20 * S, 10)["end_to_end"]["count"] == 2 * len(range(11, 21))


class TestCoordinatedOmission:
    @given(st.lists(st.integers(0, 10**10), min_size=1, max_size=20), st.integers(10**6, 10**9))
    @example([0, 10**7], 10**6)
    def test_what_was_never_submitted_is_added(self, took: list[int], interval_ns: int) -> None:
        histogram = Histogram()
        for value in took:
            histogram.record(value)
        # What HdrHistogram's recordValueWithExpectedInterval records, on the values as the buckets know them.
        expected = list(took)
        for bucket in map(bucket_of, took):
            octave = max(0, bucket // 64 - 1)
            value = min(((bucket - 64 * octave) << octave) + ((1 << octave) // 2), max(took))
            expected += range(value - interval_ns, 0, -interval_ns)
        corrected = histogram.corrected(interval_ns)
        assert corrected.count == len(expected)
        assert corrected.total == pytest.approx(sum(expected), rel=0.017)
        for percent in (50, 90, 99):
            exact = int(np.percentile(expected, percent, method="inverted_cdf"))
            assert corrected.percentile(percent) == pytest.approx(exact, rel=0.017)
        assert corrected.maximum == max(took)
        assert histogram.count == len(took), "the raw ones stay as they are"

    @given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(10**7, 10**9)), max_size=5))
    def test_many_together_are_corrected_as_each_by_itself(self, some: list[tuple[int, int]]) -> None:
        many = []
        for value, _ in some:
            histogram = Histogram()
            histogram.record(value)
            many.append(histogram)
        intervals_ns = [interval_ns for _, interval_ns in some]
        for one, interval_ns, found in zip(
            many, intervals_ns, Histogram.corrected_each(many, intervals_ns), strict=True
        ):
            alone = one.corrected(interval_ns)
            assert (found.sparse(), found.count, found.total) == (alone.sparse(), alone.count, alone.total)

    def test_a_year_is_corrected_in_a_moment_and_to_the_last_frame(self) -> None:
        histogram = Histogram()
        histogram.record(365 * 86_400 * S)
        corrected = histogram.corrected(MS)
        assert corrected.count == pytest.approx(365 * 86_400 * 1000, rel=0.01)
        assert sum(corrected.used()[1].tolist()) == corrected.count

    def test_a_stall_of_two_seconds_counts_for_all_frames_that_it_kept_away(self) -> None:
        account = StreamLedger("a", live=True)
        at_ns = S
        for number in range(100):
            account.arrived(at_ns, number / 25, 0, False)
            took_ns = 2000 * MS if number == 50 else 10 * MS
            account.finished(whole_way(at_ns + took_ns, took_ns))
            at_ns += max(40 * MS, took_ns)
        figures = account.as_dict(0)
        assert figures["end_to_end"]["p95_ms"] == pytest.approx(10, rel=0.01)
        assert figures["end_to_end_corrected"]["interval_ms"] == pytest.approx(40, rel=0.01)
        assert figures["end_to_end_corrected"]["count"] == 100 + 49
        assert figures["end_to_end_corrected"]["p95_ms"] == pytest.approx(1720, rel=0.05)
        assert figures["end_to_end_corrected"]["max_ms"] == figures["end_to_end"]["max_ms"] == 2000.0

    def test_where_nothing_is_expected_nothing_is_corrected(self) -> None:
        account = StreamLedger("a")
        for number in range(9):
            account.arrived(number * S, number / 25, 0, False)
            account.finished(whole_way(number * S + S, S))
        assert account.as_dict(0)["end_to_end_corrected"] is None


class TestDropped:
    @pytest.mark.parametrize("last", [mark for mark in Mark if mark is not Mark.READ])
    def test_a_journey_ends_in_the_part_whose_mark_was_the_last(self, last: Mark) -> None:
        trace = new_trace()
        for mark in range(last + 1):
            trace[mark] = 100 + mark
        assert ended_in(trace) == PARTS[last]
        assert sum(part_times(trace).values()) == elapsed(trace) == last

    def test_reason_place_and_age_are_kept(self) -> None:
        account = StreamLedger("a")
        trace = new_trace()
        trace[Mark.READ], trace[Mark.PREPARED], trace[Mark.QUEUED], trace[Mark.COLLECT] = S, S + 2, S + 2, S + 30 * MS
        for _ in range(3):
            account.decoded += 1
            account.lost("overflow", trace)
        frames: dict[str, Any] = account.as_dict(0)["frames"]
        assert (frames["dropped"], frames["dropped_in"]) == ({"overflow": 3}, {"scheduler": {"overflow": 3}})
        assert (frames["decoded"], frames["in_flight"]) == (3, 0)
        assert account.as_dict(0)["dropped_after"]["p50_ms"] == pytest.approx(30, rel=0.01)


def test_whoever_finishes_and_whoever_asks_lose_nothing() -> None:
    times = StreamTimes(looks_back=True)
    go = threading.Barrier(5)

    def finish() -> None:
        go.wait()
        for number in range(10 * BLOCK):
            times.finished(whole_way(S + number, 1 + number))

    threads = [threading.Thread(target=finish) for _ in range(4)]
    for thread in threads:
        thread.start()
    go.wait()
    seen = [times.measured(0).latency.end_to_end.histogram.count for _ in range(50)]
    for thread in threads:
        thread.join(10)
    assert seen == sorted(seen)
    histogram = times.measured(0).latency.end_to_end.histogram
    assert (histogram.count, histogram.total) == (40 * BLOCK, 4 * sum(range(1, 10 * BLOCK + 1)))
    assert times.frames == 40 * BLOCK


LATE_IMPORTS = """
import sys
from pipeline.ledger import StreamLedger
from pipeline.timing import PTS, Mark, new_trace
known = set(sys.modules)
account = StreamLedger("a", live=True)
for number in range(700):
    trace = new_trace()
    trace[PTS] = number * 40_000_000
    for mark in Mark:
        trace[mark] = 10**9 + trace[PTS] + mark * 10**6
    account.arrived(trace[0], number / 25, 0, False, (4, 4))
    account.published(trace)
    account.finished(trace)
account.as_dict(0, at_ns=30 * 10**9)
print(*sorted(name for name in set(sys.modules) - known if name.startswith("numpy")))
"""


def test_nothing_of_numpy_is_loaded_while_frames_are_on_their_way() -> None:
    """``numpy.unique`` loads ``numpy.ma`` at its first call: 50 ms in which nobody else gets on."""
    done = subprocess.run([sys.executable, "-c", LATE_IMPORTS], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
