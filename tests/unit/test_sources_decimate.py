# SPDX-License-Identifier: Apache-2.0
"""Thinning by time: phase-stable, drift-free, indifferent to rounding and jitter."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frame import Capture, Picture
from pipeline.sources import Thinner

PICTURE = Picture((np.zeros((2, 2), np.uint8),), "gray")


def kept(stamps: list[float], fps: float | None = None, stride: int = 1, first_index: int = 0) -> list[int]:
    thinner = Thinner(fps, stride)
    return [n for n, at in enumerate(stamps) if thinner.keep(Capture(PICTURE, first_index + n, at, 0, 0))]


def test_without_a_rate_everything_stays() -> None:
    assert kept([0.0, 0.1, 0.15]) == [0, 1, 2]


@pytest.mark.parametrize(("source", "asked"), [(30, 5), (30, 10), (30, 15), (25, 5), (60, 6), (29.97, 29.97 / 3)])
def test_whole_ratios_keep_every_nth_frame(source: float, asked: float) -> None:
    step = round(source / asked)
    assert kept([n / source for n in range(600)], asked) == list(range(0, 600, step))


@pytest.mark.parametrize("digits", [3, 2])
def test_stamps_rounded_by_the_container_change_nothing(digits: int) -> None:
    assert kept([round(n / 30, digits) for n in range(600)], 15) == list(range(0, 600, 2))


@pytest.mark.parametrize(("source", "asked"), [(30, 7), (30, 20), (25, 10), (24, 23), (50, 12.5), (15, 4)])
def test_other_ratios_hold_the_rate_and_spread_evenly(source: float, asked: float) -> None:
    stamps = [n / source for n in range(int(source * 60))]
    chosen = kept(stamps, asked)
    assert len(chosen) == pytest.approx(60 * asked, abs=1)
    steps = np.diff(chosen)
    assert set(steps) <= {int(source // asked), int(source // asked) + 1}
    grid = np.round(np.array(chosen) / source * asked) / asked
    assert np.abs(np.array(chosen) / source - grid).max() <= 0.56 / source, "the frame nearest to each grid point"


def test_asking_for_more_than_there_is_keeps_everything() -> None:
    for source in (5, 24, 25, 30):
        assert len(kept([n / source for n in range(300)], 30)) == 300


def test_jitter_of_a_camera_does_not_disturb_the_choice() -> None:
    noise = random.Random(7)
    stamps = [0.0] + [n / 30 + noise.uniform(-0.006, 0.006) for n in range(1, 900)]
    assert kept(stamps, 10) == list(range(0, 900, 3))


def test_after_a_gap_the_grid_is_the_same() -> None:
    stamps = [n / 30 for n in range(30)] + [7.31 + n / 30 for n in range(60)]
    chosen = [stamps[n] for n in kept(stamps, 5)]
    assert chosen[:5] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    assert [round(at * 5) / 5 for at in chosen[6:]] == pytest.approx(chosen[6:], abs=0.5 / 30)


def test_a_source_that_starts_anew_is_followed() -> None:
    stamps = [n / 30 for n in range(60)]
    chosen = kept(stamps + stamps, 5)
    assert chosen == [*range(0, 60, 6), *range(60, 120, 6)]


def test_stride_counts_delivered_frames() -> None:
    assert kept([n / 30 for n in range(10)], stride=3) == [0, 3, 6, 9]
    assert kept([n / 30 for n in range(10)], stride=3, first_index=2) == [1, 4, 7]
    assert kept([n / 30 for n in range(60)], fps=5, stride=2) == list(range(0, 60, 6))


@pytest.mark.parametrize("arguments", [{"fps": 0}, {"fps": -1.0}, {"fps": float("nan")}, {"stride": 0}])
def test_nonsense_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Thinner(**arguments)  # type: ignore[arg-type]


@given(st.lists(st.floats(1e-4, 2.0), min_size=1, max_size=200), st.floats(0.5, 60))
def test_never_more_than_asked_for_and_never_longer_gaps_than_need_be(steps: list[float], fps: float) -> None:
    stamps = [0.0, *np.cumsum(steps).tolist()]
    chosen = kept(stamps, fps)
    assert chosen[0] == 0
    assert len(chosen) <= stamps[-1] * fps + 2, "one frame per grid point"
    for before, after in itertools.pairwise(chosen):
        passed_over = stamps[before + 1 : after]
        assert all(at - stamps[before] < 1.46 / fps for at in passed_over), "a frame that was due was left out"
