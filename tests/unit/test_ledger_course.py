# SPDX-License-Identifier: Apache-2.0
"""Figures over time: against numpy slot by slot, whatever the slots' width became, and merged in any order."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Cause
from pipeline.frame import SourceCounters, StreamInfo
from pipeline.ledger import Ledger, StreamLedger
from pipeline.ledger.blocks import Block
from pipeline.ledger.course import FIRST_NS, SLOTS, Course
from pipeline.measures import bucket_of, bucket_start
from pipeline.timing import Mark
from tests.ledgers import whole_way

MS = 1_000_000
S = 1_000_000_000

frames = st.lists(st.tuples(st.integers(S, 5000 * S), st.integers(0, 60 * S)), min_size=1, max_size=60)


def course(*ended: tuple[int, int]) -> Course:
    """Of frames that ended then and took so long, added one by one."""
    found = Course()
    for done_ns, took_ns in ended:
        found.add(Block([whole_way(done_ns, took_ns)]))
    return found


def figures(found: Course) -> dict[str, Any]:
    shown = found.as_dict(0)
    assert shown is not None
    return shown


@given(frames)
def test_every_slot_agrees_with_numpy(ended: list[tuple[int, int]]) -> None:
    ended = [(done, min(took, done)) for done, took in ended]
    shown = figures(course(*ended))
    width_ns, begin_ns = round(shown["step_s"] * S), round(shown["start_s"] * S)
    assert width_ns >= FIRST_NS
    assert begin_ns % width_ns == 0
    assert len(shown["results"]) <= SLOTS
    for slot, count in enumerate(shown["results"]):
        here = [took for done, took in ended if 0 <= done - begin_ns - slot * width_ns < width_ns]
        assert count == len(here)
        if not here:
            assert [shown[key][slot] for key in ("mean_ms", "p50_ms", "p99_ms", "max_ms")] == [None] * 4
            continue
        assert shown["mean_ms"][slot] == pytest.approx(np.mean(here) / MS, abs=1e-3)
        assert shown["max_ms"][slot] == pytest.approx(max(here) / MS, abs=1e-3)
        for key, percent in (("p50_ms", 50), ("p99_ms", 99)):
            exact = float(np.percentile(here, percent, method="inverted_cdf")) / MS
            if exact > 0.2:  # below, all is in the first bucket
                assert abs(shown[key][slot] - exact) <= exact / 16 + 5e-4  # figures are rounded


@given(st.lists(frames, min_size=3, max_size=3))
def test_courses_are_added_up_in_any_order(some: list[list[tuple[int, int]]]) -> None:
    parts = [[(done, min(took, done)) for done, took in each] for each in some]
    one = Course()
    for part in parts:
        one.merge(course(*part))
    other = Course()
    for part in reversed(parts):
        other.merge(course(*part))
    assert figures(one) == figures(other)
    assert sum(figures(one)["results"]) == sum(map(len, parts))
    assert figures(one) == figures(course(*itertools.chain(*parts)))


def test_it_is_what_it_was_when_it_is_merged_into_another() -> None:
    long, short = course((S, MS), (5000 * S, MS)), course((S, MS), (2 * S, MS))
    before = figures(short)
    long.merge(short)
    Course().merge(short)
    assert figures(short) == before


def test_memory_does_not_grow_with_time() -> None:
    found = course((S, MS))
    figures(found)
    sizes = {name: value.nbytes for name, value in vars(found).items() if isinstance(value, np.ndarray)}
    for second in range(2, 90_000, 7):
        found.add(Block([whole_way(second * S, MS)]))
    assert sizes == {name: value.nbytes for name, value in vars(found).items() if isinstance(value, np.ndarray)}
    assert sum(sizes.values()) < 100_000
    shown = figures(found)
    assert SLOTS // 2 <= len(shown["results"]) <= SLOTS
    assert sum(shown["results"]) == 1 + len(range(2, 90_000, 7))
    assert all(shown["results"])


def test_what_is_told_late_has_its_own_slot() -> None:
    """Finished frames are taken apart many at a time, a loss is told at once."""
    found = course((100 * S, MS))
    found.lost([99 * S + 500 * MS])
    shown = figures(found)
    assert (shown["start_s"], shown["dropped"], shown["results"]) == (99.5, [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1])


def test_a_machine_that_slept_for_a_year() -> None:
    shown = figures(course((S, MS), (S + 365 * 24 * 3600 * S, MS)))
    assert (shown["results"][0], shown["results"][-1], len(shown["results"]) <= SLOTS) == (1, 1, True)


class TestOfAStream:
    def camera(self) -> StreamLedger:
        """Two frames, an outage of two seconds, and two more, of which one is dropped."""
        account = StreamLedger("a", live=True)
        counters = SourceCounters()
        account.opened(StreamInfo("a", live=True), counters, 10 * S)
        for index, at_ns in enumerate((10 * S, 10 * S + 100 * MS, 12 * S, 12 * S + 100 * MS)):
            counters.reconnects = int(index >= 2)
            account.arrived(at_ns, 0.1 * index, counters.reconnects, False)
            trace = whole_way(at_ns + 20 * MS, 20 * MS)
            if index == 3:
                trace[Mark.PREPARED], trace[Mark.DONE] = trace[Mark.DONE], 0
                account.lost("stale", trace)
            else:
                account.published(trace)
                account.finished(trace)
        return account

    def test_losses_and_reconnects_are_marked_where_they_were(self) -> None:
        shown = self.camera().shape(10 * S)["over_time"]
        assert (shown["start_s"], shown["step_s"], len(shown["results"])) == (0.0, 0.1, 22)
        assert [slot for slot, count in enumerate(shown["results"]) if count] == [0, 1, 20]
        assert [slot for slot, count in enumerate(shown["dropped"]) if count] == [21]
        assert [slot for slot, count in enumerate(shown["reconnects"]) if count] == [20]
        assert shown["mean_ms"][20] == 20.0
        assert shown["p50_ms"][10] is None

    def test_it_is_the_same_when_the_stream_is_over(self) -> None:
        account = self.camera()
        before = account.shape(10 * S)
        account.settle()
        assert account.shape(10 * S) == before
        assert account.shape(9 * S)["over_time"]["start_s"] == 1.0

    @pytest.mark.parametrize("over", [False, True])
    def test_the_total_has_all_streams(self, over: bool) -> None:
        ledger = Ledger()
        ledger.begin(10 * S)
        for name in ("a", "b"):
            account = self.camera()
            account.name = name
            ledger.add(account)
            account.ended(None, at_limit=False, asked=False)
            if over:
                ledger.settle(account)
        ledger.end(14 * S)
        report = ledger.as_dict()
        total, one = report["total"], report["streams"]["a"]
        for key in ("results", "dropped", "reconnects"):
            assert total["over_time"][key] == [2 * count for count in one["over_time"][key]]
        buckets = total["distributions"]["end_to_end"]
        assert buckets == {"buckets": [bucket_of(20 * MS)], "counts": [6]}
        assert bucket_start(buckets["buckets"][0]) <= 20 * MS < bucket_start(buckets["buckets"][0] + 1)

    def test_who_never_ran_has_none(self) -> None:
        cause: Cause = "refused"
        account = StreamLedger("a", live=True)
        account.failed("nobody there", cause)
        assert account.shape(0) == {"distributions": {}, "over_time": None}
