# SPDX-License-Identifier: Apache-2.0
"""Jitter against hand-worked vectors, and of many values at once against the definitions, one value after the other."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.measures import IntervalJitter, SmoothedChange

MS = 1_000_000


def column(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)[:, None]


def test_transit_jitter_follows_rfc_3550() -> None:
    # Worked by hand: transits 0, 16, 16, 0 -> |D| 16, 0, 16 -> J 1, 0.9375, 1.87890625
    jitter = SmoothedChange()
    values = []
    for capture, arrival in [(0, 0), (100, 116), (200, 216), (300, 300)]:
        jitter.add(column(arrival - capture))
        values.append((bool(jitter.known[0]), jitter.value_ns[0]))
    assert values == [(False, 0.0), (True, 1.0), (True, 0.9375), (True, 1.87890625)]
    jitter.reset()
    jitter.add(column(9600))  # a break in the time stamps is no jitter
    assert jitter.value_ns[0] == 1.87890625
    at_once = SmoothedChange()
    at_once.add(column(0, 16, 16, 0))
    assert at_once.value_ns[0] == 1.87890625


def test_the_standard_deviation_of_the_gaps_the_largest_one_and_freezes() -> None:
    times = np.cumsum([5, 7, 1, 30, 2, 8])
    jitter = IntervalJitter()
    for at in times.tolist():
        jitter.add(column(at))
    assert jitter.value_ns[0] == pytest.approx(np.std(np.diff(times)))
    assert (jitter.largest_ns[0], jitter.freezes[0]) == (30, 0)
    slow = IntervalJitter()
    slow.add(column(0, 1000 * MS, 3999 * MS, 7000 * MS), nominal_ns=1000 * MS)  # nominal 1 s: above 3 s
    assert slow.freezes[0] == 1


def test_of_nothing_and_of_one_there_is_none() -> None:
    change, interval = SmoothedChange(2), IntervalJitter(2)
    for values in (np.zeros((0, 2), np.int64), np.array([[7, 0]])):
        change.add(values, values > 0)
        interval.add(values, values > 0)
        assert not change.known.any()
        assert np.isnan(interval.value_ns).all()
    interval.add(np.array([[9, 5]]))
    assert np.isnan(interval.value_ns).all()
    assert (interval.largest_ns == [2, 0]).all()


frames = st.lists(st.tuples(*[st.none() | st.integers(0, 10**12)] * 3), max_size=40)


@given(st.lists(frames, max_size=6), st.sets(st.integers(0, 5)))
def test_whatever_comes_together_it_is_the_same_as_one_by_one(
    blocks: list[list[tuple[int | None, ...]]], resets: set[int]
) -> None:
    change, interval = SmoothedChange(3), IntervalJitter(3)
    for number, block in enumerate(blocks):
        if number in resets:
            change.reset()
            interval.reset()
        values = np.array([[value or 0 for value in row] for row in block], np.int64).reshape(-1, 3)
        passed = np.array([[value is not None for value in row] for row in block], bool).reshape(-1, 3)
        change.add(values, passed)
        interval.add(values, passed, 10**9)
    for series in range(3):
        steps: list[int] = []
        before: int | None = None
        for number, block in enumerate(blocks):
            before = None if number in resets else before
            for value in (row[series] for row in block):
                if value is not None:
                    steps += [] if before is None else [value - before]
                    before = value
        jitter = 0.0  # RFC 3550, section 6.4.1, as it is written there
        for step in steps:
            jitter += (abs(step) - jitter) / 16
        assert change.value_ns[series] == pytest.approx(jitter, rel=1e-9)
        assert change.known[series] == bool(steps)
        assert interval.largest_ns[series] == max(0, *steps, 0)
        assert interval.freezes[series] == sum(step > 3 * 10**9 for step in steps)
        expected = np.std(steps) if len(steps) > 1 else math.nan
        assert interval.value_ns[series] == pytest.approx(expected, rel=1e-6, abs=1e-3, nan_ok=True)


some_frames = st.lists(st.tuples(*[st.none() | st.integers(0, 10**12)] * 3), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(some_frames, some_frames, some_frames), max_size=4))
def test_many_owners_at_once_are_each_alone(rounds: list[tuple[list[tuple[int | None, ...]], ...]]) -> None:
    alone = [(SmoothedChange(3), IntervalJitter(3)) for _ in range(3)]
    many = [(SmoothedChange(3), IntervalJitter(3)) for _ in range(3)]
    nominal_ns = [None, 10**9, 10**10]
    for blocks in rounds:
        values = [np.array([[value or 0 for value in row] for row in block], np.int64) for block in blocks]
        passed = [np.array([[value is not None for value in row] for row in block], bool) for block in blocks]
        firsts = np.cumsum([0, len(values[0]), len(values[1])])
        SmoothedChange.add_each([change for change, _ in many], np.concatenate(values), np.concatenate(passed), firsts)
        IntervalJitter.add_each(
            [interval for _, interval in many], np.concatenate(values), np.concatenate(passed), firsts, nominal_ns
        )
        for number, (change, interval) in enumerate(alone):
            change.add(values[number], passed[number])
            interval.add(values[number], passed[number], nominal_ns[number])
    for (change, interval), (own_change, own_interval) in zip(many, alone, strict=True):
        assert change.value_ns == pytest.approx(own_change.value_ns)
        assert (change.known == own_change.known).all()
        assert interval.value_ns == pytest.approx(own_interval.value_ns, nan_ok=True)
        assert (interval.largest_ns == own_interval.largest_ns).all()
        assert (interval.freezes == own_interval.freezes).all()
