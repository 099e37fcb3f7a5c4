# SPDX-License-Identifier: Apache-2.0
"""Time stamps as cameras and recorders really send them: missing, repeated, disordered, set forward and back."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.timeline import JUMP_S, TICK_S, Timeline

MS = Fraction(1, 1000)


def place(
    stamps: list[int | None], *, declared: float | None = 0.04, reads: list[int] | None = None, live: bool = False
):
    """Placed stamps and epochs; packets are read 40 ms apart unless told otherwise."""
    timeline = Timeline(MS, declared, live=live)
    reads = reads or [40 * n for n in range(len(stamps))]
    return [
        (round(timeline.place(stamp, read * 1_000_000), 6), timeline.epoch)
        for stamp, read in zip(stamps, reads, strict=True)
    ]


def times(placed: list[tuple[float, int]]) -> list[float]:
    return [at for at, _ in placed]


def test_relative_to_the_first_frame() -> None:
    assert place([7000, 7040, 7090]) == [(0.0, 0), (0.04, 0), (0.09, 0)]


def test_exact_over_days() -> None:
    """The stamp is divided once; nothing adds up."""
    timeline = Timeline(Fraction(1, 90000), 1 / 25)
    timeline.place(0, 0)
    stamp = 0
    for _ in range(1000):
        stamp += 90000 * 10
        last = timeline.place(stamp, 0)
    assert last == 10_000.0


def test_missing_stamps_follow_the_declared_rate() -> None:
    assert times(place([None, None, None])) == [0.0, 0.04, 0.08]
    assert times(place([0, None, 80])) == [0.0, 0.04, 0.08]
    assert times(place([None, 500, 540])) == [0.0, 0.04, 0.08]
    assert {epoch for _, epoch in place([None, 500, 540])} == {0}


def test_missing_stamps_follow_the_last_interval_where_nothing_is_declared() -> None:
    assert times(place([0, 100, None, None], declared=None)) == [0.0, 0.1, 0.2, 0.3]


def test_repeated_and_slightly_disordered_stamps_neither_stand_nor_run_back() -> None:
    assert times(place([0, 40, 40, 80])) == [0.0, 0.04, 0.04 + TICK_S, 0.08]
    assert place([0, 120, 40, 80, 160]) == [(0.0, 0), (0.12, 0), (0.120001, 0), (0.120002, 0), (0.16, 0)]


@pytest.mark.parametrize("live", [False, True])
def test_a_step_back_goes_on_and_grows_the_epoch(live: bool) -> None:
    placed = place([10_000, 10_040, 0, 40], live=live)
    assert placed == [(0.0, 0), (0.04, 0), (0.08, 1), (0.12, 1)]


def test_a_recording_keeps_a_jump_forward() -> None:
    assert place([0, 40, 60_040, 60_080]) == [(0.0, 0), (0.04, 0), (60.04, 1), (60.08, 1)]


def test_a_feed_does_not_believe_a_jump_forward() -> None:
    placed = place([0, 40, 3_600_040, 3_600_080], reads=[0, 40, 85, 125], live=True)
    assert placed == [(0.0, 0), (0.04, 0), (0.085, 1), (0.125, 1)]


def test_a_feed_that_really_paused_did_not_jump() -> None:
    assert place([0, 40, 20_040], reads=[0, 40, 20_040], live=True) == [(0.0, 0), (0.04, 0), (20.04, 0)]


def test_a_time_lapse_is_not_a_series_of_breaks() -> None:
    placed = place([15_000 * n for n in range(4)], declared=15.0)
    assert placed == [(15.0 * n, 0) for n in range(4)]


@given(
    st.lists(st.none() | st.integers(-(2**40), 2**40), min_size=1, max_size=60),
    st.booleans(),
    st.none() | st.sampled_from([0.01, 0.04, 1.0]),
)
def test_whatever_comes_time_only_grows(stamps: list[int | None], live: bool, declared: float | None) -> None:
    timeline = Timeline(MS, declared, live=live)
    placed = [timeline.place(stamp, 40_000_000 * n) for n, stamp in enumerate(stamps)]
    assert placed[0] == 0.0
    assert all(after > before for before, after in pairwise(placed))


@given(st.lists(st.integers(1, int(JUMP_S * 1000) - 1), min_size=1, max_size=60))
def test_clean_stamps_are_left_alone(steps: list[int]) -> None:
    stamps = [1234]
    for step in steps:
        stamps.append(stamps[-1] + step)
    timeline = Timeline(MS, 0.04)
    assert [timeline.place(stamp, 0) for stamp in stamps] == [(stamp - 1234) / 1000 for stamp in stamps]
    assert timeline.breaks == 0
