# SPDX-License-Identifier: Apache-2.0
"""A playout delay that follows its stream, against what numpy says that the results needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

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


@given(st.lists(st.floats(0, 900), min_size=1, max_size=400))
def test_it_is_what_the_neediest_of_the_last_hundred_needed_and_shrinks_slowly(needs_ms: list[float]) -> None:
    needs = np.round(np.array(needs_ms) * MS) / MS
    _, met = lateness(PlayoutDelay(), needs)
    assert met[0] == 0
    for number in range(1, len(needs)):
        neediest = needs[max(0, number - LOOKS_BACK) : number].max()
        shrunk = met[number - 1] - (INTERVAL_MS * 0.02 if number > 1 else 0)
        assert met[number] == pytest.approx(max(neediest, shrunk), abs=1e-5)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), least=st.floats(0, 100), spread=st.floats(0.5, 30))
def test_one_in_a_hundred_is_late_at_most(seed: int, least: float, spread: float) -> None:
    needs = least + np.random.default_rng(seed).gamma(2.0, spread, 10_000)
    late, met = lateness(PlayoutDelay(), needs)
    assert late[LOOKS_BACK:].mean() < 1.4 / LOOKS_BACK
    assert np.percentile(needs, 97) <= np.median(met) <= np.percentile(needs, 99.95)


def test_it_is_there_at_once_and_shrinks_again() -> None:
    delay = PlayoutDelay()
    late, met = lateness(delay, [200.0] * 10)
    assert (list(late), met[1]) == ([True] + [False] * 9, 200)
    lateness(delay, [10.0] * LOOKS_BACK)
    assert delay.delay_ns > 190 * MS
    lateness(delay, [10.0] * 300)  # ten seconds
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
