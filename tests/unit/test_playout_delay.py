# SPDX-License-Identifier: Apache-2.0
"""A playout delay that follows its stream, against numpy's percentile of what the results needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.timing import PlayoutDelay
from pipeline.timing.playout import LATE_SHARE, LONGEST_NS

MS = 1_000_000


def lateness(delay: PlayoutDelay, needs_ms: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which results were late that were ready so long after their places, and the delay that each met."""
    late, met = [], []
    for need in needs_ms:
        ready_ns = round(need * MS)
        due_ns = delay.due_ns(0, ready_ns)
        late.append(ready_ns > due_ns)
        met.append(due_ns / MS)
    return np.array(late), np.array(met)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), least=st.floats(0, 100), spread=st.floats(0.5, 30))
def test_one_in_a_hundred_is_late_and_the_delay_is_their_99th_percentile(
    seed: int, least: float, spread: float
) -> None:
    needs = least + np.random.default_rng(seed).gamma(2.0, spread, 20_000)
    late, met = lateness(PlayoutDelay(), needs)
    settled = slice(4_000, None)
    assert late[settled].mean() == pytest.approx(LATE_SHARE, abs=0.004)
    low, high = np.percentile(needs, [97.5, 99.8])
    step = 1 + high / 16  # it goes up by so much at a time, and down slowly
    assert low <= met[settled].mean() <= high + step / 2


def test_it_is_there_within_two_seconds_of_a_camera() -> None:
    """30 frames a second that need 20 ms each, more or less."""
    needs = 20 + np.random.default_rng(1).normal(0, 2, 60)
    late, met = lateness(PlayoutDelay(), needs)
    assert late[30:].mean() < 0.15
    assert 20 < met[-1] < 30


def test_one_result_that_is_very_late_changes_little() -> None:
    delay = PlayoutDelay()
    lateness(delay, np.full(1000, 40.0))
    before = delay.delay_ns
    lateness(delay, np.array([5_000.0]))
    assert before < delay.delay_ns < before + 5 * MS


def test_it_shrinks_again_when_results_need_less() -> None:
    delay = PlayoutDelay()
    lateness(delay, np.full(500, 200.0))
    lateness(delay, np.full(10_000, 10.0))
    assert delay.delay_ns < 20 * MS


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=200), st.none() | st.integers(1, 3_000))
def test_it_is_never_longer_than_allowed_nor_negative(needs_ms: list[int], most_ms: int | None) -> None:
    most_ns = None if most_ms is None else most_ms * MS
    delay = PlayoutDelay(most_ns=most_ns)
    for need in needs_ms:
        delay.due_ns(0, need * MS)
        assert 0 <= delay.delay_ns <= min(LONGEST_NS, LONGEST_NS if most_ns is None else most_ns)


@given(st.integers(1, 10**10), st.lists(st.integers(0, 10**10), max_size=50))
def test_one_that_is_given_stays(delay_ns: int, ready: list[int]) -> None:
    delay = PlayoutDelay(delay_ns)
    assert [delay.due_ns(7, ready_ns) for ready_ns in ready] == [7 + delay_ns] * len(ready)
    assert not delay.adapts
