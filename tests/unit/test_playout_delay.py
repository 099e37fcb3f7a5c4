# SPDX-License-Identifier: Apache-2.0
"""A playout delay that follows its stream, against what numpy says that the results needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.ledger.playout import PlayoutCount
from pipeline.timing import PlayoutDelay
from pipeline.timing.playout import LONGEST_NS, LOOKS_BACK

Floats = NDArray[np.float64]
MS = 1_000_000


INTERVAL_MS = 33


def lateness(delay: PlayoutDelay, needs_ms: Sequence[float] | Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Which results were late that were ready so long after their places, 30 a second, and the delay each met in ms."""
    late, met = [], []
    for number, need in enumerate(needs_ms):
        place_ns = number * INTERVAL_MS * MS
        ready_ns = place_ns + round(need * MS)
        due_ns = delay.due_ns(place_ns, ready_ns)
        late.append(ready_ns > due_ns)
        met.append((due_ns - place_ns) / MS)
    return np.array(late), np.array(met)


PERCENTILES = st.integers(50, 99)


@given(st.lists(st.floats(0, 900), min_size=1, max_size=300), PERCENTILES)
def test_it_is_what_so_many_of_the_last_hundred_needed_and_shrinks_slowly(
    needs_ms: list[float], percentile: int
) -> None:
    needs = np.round(np.array(needs_ms) * MS) / MS
    _, met = lateness(PlayoutDelay(percentile=percentile), needs)
    assert met[0] == 0
    for number in range(1, len(needs)):
        last = needs[max(0, number - LOOKS_BACK) : number]
        enough = np.sort(last)[::-1][max(1, len(last) * (100 - percentile) // 100) - 1]
        shrunk = met[number - 1] - (INTERVAL_MS * 0.02 if number > 1 else 0)
        assert met[number] == pytest.approx(max(enough, shrunk), abs=1e-5)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), least=st.floats(0, 100), spread=st.floats(0.5, 30), percentile=PERCENTILES)
def test_so_many_leave_in_their_time_and_the_delay_is_their_percentile(
    seed: int, least: float, spread: float, percentile: int
) -> None:
    needs = least + np.random.default_rng(seed).gamma(2.0, spread, 5_000)
    late, met = lateness(PlayoutDelay(percentile=percentile), needs)
    assert late[LOOKS_BACK:].mean() < (100 - percentile) / 100 + 0.006  # fewer: it shrinks slowly
    low, high = np.percentile(needs, [percentile - 4, percentile + (100 - percentile) * 0.95])
    assert low <= np.median(met) <= high


def test_it_is_there_at_once_and_shrinks_again() -> None:
    delay = PlayoutDelay(percentile=99)
    late, met = lateness(delay, [200.0] * 10)
    assert (list(late), met[1]) == ([True] + [False] * 9, 200)
    lateness(delay, [10.0] * LOOKS_BACK)
    assert delay.delay_ns > 190 * MS
    lateness(delay, [10.0] * 300)  # ten seconds
    assert delay.delay_ns < 20 * MS


def test_of_two_lives_results_are_added_up_and_the_delay_is_the_later_ones() -> None:
    before, after = PlayoutCount(PlayoutDelay(10 * MS)), PlayoutCount(PlayoutDelay(30 * MS))
    assert [before.due_ns(0, ready_ms * MS) for ready_ms in (5, 15, 20)] == [10 * MS] * 3
    after.due_ns(0, 20 * MS)
    told = {"delay_ms": 30.0, "percentile": None, "results": 4, "late": 2, "late_share": 0.5}
    assert (before + after).as_dict() == told
    assert (before + PlayoutCount()).as_dict() == PlayoutCount().as_dict() == {}
    assert PlayoutCount().due_ns(0, 20 * MS) == 0
    assert PlayoutCount(PlayoutDelay(10 * MS)).as_dict()["late_share"] is None


def test_no_result_is_held_for_longer_than_a_second() -> None:
    _, met = lateness(PlayoutDelay(percentile=99), [1_500.0] * 3)
    assert list(met) == [0, 1_000, 1_000]


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=200), st.none() | st.integers(1, 3_000))
def test_it_is_never_longer_than_allowed_nor_negative(needs_ms: list[int], most_ms: int | None) -> None:
    most_ns = None if most_ms is None else most_ms * MS
    delay = PlayoutDelay(percentile=99, most_ns=most_ns)
    for need in needs_ms:
        delay.due_ns(0, need * MS)
        assert 0 <= delay.delay_ns <= min(LONGEST_NS, LONGEST_NS if most_ns is None else most_ns)


@given(st.integers(1, 10**10), st.lists(st.integers(0, 10**10), max_size=50))
def test_one_that_is_given_stays(delay_ns: int, ready: list[int]) -> None:
    delay = PlayoutDelay(delay_ns)
    assert [delay.due_ns(7, ready_ns) for ready_ns in ready] == [7 + delay_ns] * len(ready)
    assert delay.percentile is None
