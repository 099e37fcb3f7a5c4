# SPDX-License-Identifier: Apache-2.0
"""A reader that falls behind is known by its frames' delays against their time stamps."""

from __future__ import annotations

import pytest

from pipeline.timing import Lag

MS = 1_000_000
EVERY = 40 * MS
START = 5_000 * MS


def test_a_steady_reader_has_no_lag_whatever_the_delay() -> None:
    lag = Lag()
    found = [lag.at(START + number * EVERY + 700 * MS, number * EVERY, 0) for number in range(100)]
    assert max(found) == 0


def test_lag_is_the_delay_above_the_least_one() -> None:
    lag = Lag()
    delays_ms = [30, 10, 10, 25, 100, 12]
    found = [lag.at(START + n * EVERY + delay * MS, n * EVERY, 0) for n, delay in enumerate(delays_ms)]
    assert [round(each / MS) for each in found] == [0, 0, 0, 15, 90, 2]


def test_behind_is_more_than_an_interval() -> None:
    lag = Lag()
    answers = [
        lag.is_behind(lag.at(START + number * EVERY + delay_ms * MS, number * EVERY, 0))
        for number, delay_ms in enumerate([0, 0, 39, 41, 200, 0])
    ]
    assert answers == [False, False, False, True, True, False]


@pytest.mark.parametrize(("ppm", "is_behind"), [(200, False), (-200, False), (2000, True)])
def test_a_clock_that_is_slow_is_no_lag(ppm: int, is_behind: bool) -> None:
    """Ten minutes of a camera whose clock is slow, or of a reader that loses 2 ms a second."""
    lag = Lag()
    found = [lag.is_behind(lag.at(START + n * (EVERY + EVERY * ppm // 1_000_000), n * EVERY, 0)) for n in range(15_000)]
    assert any(found) == is_behind


def test_what_was_fallen_behind_by_is_kept_over_epochs() -> None:
    lag = Lag()
    found = []
    for at_ms, pts_ms, epoch in ((0, 0, 0), (140, 40, 0), (150, 80, 0), (500, 120, 1), (570, 160, 1), (590, 200, 1)):
        lag.at(START + at_ms * MS, pts_ms * MS, epoch)
        found.append(round(lag.fallen_ns / MS))
    assert found == [0, 100, 70, 70, 100, 80]
    lag.at(START + 620 * MS, 240 * MS, 2)
    assert round(lag.fallen_ns / MS) == 70, "10 ms at an end are no lag that a loop could add up"


def test_a_break_in_the_time_stamps_begins_anew() -> None:
    lag = Lag()
    assert lag.at(START, 0, 0) == 0
    assert lag.at(START + 500 * MS, 0, 1) == 0
    assert not lag.is_behind(lag.at(START + 600 * MS, 0, 2))
