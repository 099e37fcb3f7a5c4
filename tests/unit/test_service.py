# SPDX-License-Identifier: Apache-2.0
"""What a batch costs whatever is in it follows from measured times."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.service import ServiceTimes

MS = 1_000_000


def test_before_anything_is_known_nothing_is_saved() -> None:
    times = ServiceTimes()
    assert (times.usual_ns, times.saved_ns) == (0.0, 0.0)
    for _ in range(10):
        times.add(3, 30 * MS)
    assert (times.usual_ns, times.saved_ns) == (30 * MS, 0.0)  # one size says nothing


@given(
    fixed_ms=st.floats(0, 50),
    each_ms=st.floats(0.1, 50),
    sizes=st.lists(st.integers(1, 32), min_size=3, max_size=40).filter(lambda sizes: len(set(sizes)) > 1),
)
def test_a_line_is_found(fixed_ms: float, each_ms: float, sizes: list[int]) -> None:
    times = ServiceTimes()
    for items in sizes * 3:
        times.add(items, round((fixed_ms + each_ms * items) * MS))
    if np.var(sizes) > 0.2:
        assert times.saved_ns / MS == pytest.approx(min(fixed_ms, times.usual_ns / MS), rel=1e-3, abs=1e-3)


def test_noise_hardly_moves_it() -> None:
    rng, times = random.Random(1), ServiceTimes()
    for _ in range(500):
        items = rng.randint(1, 8)
        times.add(items, round((6 + 4 * items + rng.gauss(0, 2)) * MS))
    assert times.saved_ns / MS == pytest.approx(6, abs=2)


def test_what_was_is_forgotten() -> None:
    times = ServiceTimes()
    for fixed_ms in (20, 2):
        for _ in range(200):
            for items in (1, 4):
                times.add(items, (fixed_ms + 5 * items) * MS)
    assert times.saved_ns / MS == pytest.approx(2, abs=0.5)


def test_it_is_never_negative_nor_more_than_a_batch_takes() -> None:
    dearer, cheaper = ServiceTimes(), ServiceTimes()
    for items in (1, 2, 4):
        dearer.add(items, items * items * MS)  # large batches leave the cache
        cheaper.add(items, (40 - 8 * items) * MS)
    assert dearer.saved_ns == 0.0
    assert 0 < cheaper.saved_ns <= cheaper.usual_ns
