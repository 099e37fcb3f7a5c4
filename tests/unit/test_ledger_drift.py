# SPDX-License-Identifier: Apache-2.0
"""A camera's clock against this machine's, of frames that come late as it happens."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger.drift import SLOTS, Drift

S = 1_000_000_000
FPS = 25


def camera(ppm: float, late_ms: Any, *, blocks: int = 7) -> Drift:
    """Frames 40 ms apart by the camera's clock, read as much later as said, which is fast by ``ppm``."""
    late_ns = np.asarray(late_ms) * 1e6
    pts_ns = np.arange(len(late_ns)) * S // FPS
    read_ns = 5 * S + pts_ns / (1 + ppm / 1e6) + late_ns
    drift = Drift()
    for block in np.array_split(np.column_stack([read_ns, pts_ns]).astype(np.int64), blocks):
        drift.add(block)
    return drift


@pytest.mark.parametrize("ppm", [-500.0, -40.0, 0.0, 40.0, 500.0])
@pytest.mark.parametrize("seconds", [12, 60, 1000])
def test_a_clock_that_is_off(ppm: float, seconds: int) -> None:
    found = camera(ppm, np.random.default_rng(seconds).gamma(2.0, 5.0, seconds * FPS)).ppm
    assert found is not None
    assert found[0] == pytest.approx(ppm, abs=found[1])
    assert found[1] < 4000 / seconds


def test_seconds_of_lateness_turn_nothing() -> None:
    """The machine is busy for the last ten of seventy seconds: least squares would tell of 1,500 ppm."""
    late_ms = np.random.default_rng(1).gamma(2.0, 2.0, 70 * FPS)
    late_ms[60 * FPS :] += np.random.default_rng(2).uniform(0, 500, 10 * FPS)
    pts_s = np.arange(70 * FPS) / FPS
    assert np.polyfit(pts_s + late_ms / 1e3, pts_s, 1)[0] - 1 < -1500e-6
    found = camera(0.0, late_ms).ppm
    assert found is not None
    assert abs(found[0]) <= found[1] < 50


@given(st.integers(0, 2**32 - 1), st.floats(1, 500), st.floats(-1000, 1000))
def test_no_line_below_all_lies_nearer(seed: int, latest_ms: float, ppm: float) -> None:
    """Against all lines through two of the promptest frames."""
    drift = camera(ppm, np.random.default_rng(seed).uniform(0, latest_ms, 15 * FPS))
    assert drift.ppm is not None
    x, y = (np.array(column, np.float64) for column in zip(*sorted(drift._promptest.values()), strict=True))
    x, y = x - x[0], y - y[0]
    sums = []
    for a, b in combinations(range(len(x)), 2):
        slope = (y[b] - y[a]) / (x[b] - x[a])
        above = y - y[a] - slope * (x - x[a])
        if above.min() > -1.0:  # a nanosecond
            sums.append((above.sum(), slope))
    least, _ = min(sums)
    nearest = [-slope * 1e6 for total, slope in sums if total <= least + len(x)]
    assert min(nearest) - 0.1 <= drift.ppm[0] <= max(nearest) + 0.1


def test_how_frames_are_handed_over_changes_nothing() -> None:
    late_ms = np.random.default_rng(3).gamma(2.0, 5.0, 300 * FPS)
    assert camera(20.0, late_ms, blocks=1).ppm == pytest.approx(camera(20.0, late_ms, blocks=300).ppm, abs=0.2)


def test_memory_is_bounded() -> None:
    drift = camera(20.0, np.random.default_rng(4).gamma(2.0, 5.0, 5000 * FPS), blocks=1000)
    assert SLOTS / 2 <= len(drift._promptest) <= SLOTS
    assert drift.ppm is not None
    assert drift.ppm[0] == pytest.approx(20.0, abs=0.5)


def test_too_early_to_tell() -> None:
    assert camera(100.0, [0.0] * (9 * FPS)).ppm is None
    assert Drift().ppm is None
