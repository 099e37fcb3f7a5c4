# SPDX-License-Identifier: Apache-2.0
"""What is made of the two runs that are as fast as they can be."""

from __future__ import annotations

import pytest

from pipeline.bench.capacity import Capacity
from pipeline.plan.run import _cores


def capacity(fps: float, read_fps: float, cores: float, workers: int = 2) -> Capacity:
    return Capacity(fps, read_fps, 2.0, 8.0, {8: 40.0}, cores / fps * 1e3, workers, 8)


@pytest.mark.parametrize(
    ("overrun", "streams", "cores"),
    [
        (capacity(100, 700, 1.5), 20, 1.5),
        (capacity(100, 700, 2.05), 20, 2.0),
        (capacity(100, 102, 1.5), 20, 1.9),
        (capacity(100, 700, 1.5, workers=1), 1, 1.5),
        (capacity(100, 700, 0.9, workers=1), 0, 1.9),
    ],
    ids=["contended", "free", "not too much", "as many threads as cores", "fewer"],
)
def test_a_program_gets_what_it_got_when_it_wanted_all(overrun: Capacity, streams: int, cores: float) -> None:
    whole = capacity(300, 300, 1.7)
    assert _cores(2, 0.95, whole, overrun, streams) == pytest.approx(cores)


def test_a_run_that_got_more_than_was_free_before_shows_what_is() -> None:
    whole = capacity(300, 300, 1.8)
    assert _cores(2, 0.5, whole, capacity(100, 101, 1.2), 20) == pytest.approx(1.8)
    assert _cores(2, 0.5, capacity(300, 300, 2.1), capacity(100, 101, 1.2), 20) == 2
