# SPDX-License-Identifier: Apache-2.0
"""Pictures that do not change: since when, to the last bit of every sixteenth row."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.frame import Capture, Picture, SourceCounters
from pipeline.sources.stillness import Stillness

SECOND = 1_000_000_000


def picture(rows: int = 48, columns: int = 64, **pixels: int) -> Picture:
    plane = np.full((rows, columns), 90, np.uint8)
    for place, value in pixels.items():
        row, column = place.removeprefix("at_").split("_")
        plane[int(row), int(column)] = value
    return Picture((plane,), "gray")


def seen(*pictures: Picture) -> list[int]:
    """What is noted after each of these, one a second, the first after a second."""
    counters = SourceCounters()
    stillness = Stillness(counters)
    noted = []
    for number, each in enumerate(pictures, 1):
        stillness.look(Capture(each, number, float(number), number * SECOND, number * SECOND, None, 0, False))
        noted.append(counters.still_since_ns // SECOND)
    return noted


def test_since_the_first_of_those_that_are_the_same() -> None:
    other = picture(at_8_10=91)
    assert seen(picture(), picture(), picture(), other, other, picture()) == [1, 1, 1, 4, 4, 6]


@pytest.mark.parametrize(("row", "column"), [(8, 0), (24, 31), (40, 63)])
def test_one_grey_level_anywhere_in_a_row_that_is_looked_at(row: int, column: int) -> None:
    assert seen(picture(), picture(**{f"at_{row}_{column}": 91})) == [1, 2]


def test_another_size_is_another_picture() -> None:
    assert seen(picture(), picture(64, 48), picture(64, 48)) == [1, 2, 2]


def test_a_picture_lower_than_a_macroblock_is_looked_at_as_well() -> None:
    assert seen(picture(4), picture(4), picture(4, at_2_0=91)) == [1, 1, 3]


def test_what_is_kept_is_no_view_of_the_picture() -> None:
    """The decoder writes the next picture into the same buffer."""
    plane = np.full((48, 64), 90, np.uint8)
    counters = SourceCounters()
    stillness = Stillness(counters)
    for number in (1, 2):
        stillness.look(Capture(Picture((plane,), "gray"), number, 0.0, number, number, None, 0, False))
        plane += 1
    assert counters.still_since_ns == 2


def test_pictures_that_come_once_more_are_counted() -> None:
    other = picture(at_8_10=91)
    counters = SourceCounters()
    stillness = Stillness(counters)
    counted = []
    for number, each in enumerate([picture(), picture(), picture(), other, picture(), picture(64, 48)]):
        stillness.look(Capture(each, number, float(number), number * SECOND, number * SECOND))
        counted.append(counters.duplicates)
    assert counted == [0, 1, 2, 2, 2, 2]
