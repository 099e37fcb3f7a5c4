# SPDX-License-Identifier: Apache-2.0
"""Regions of interest: what they accept, how they become whole pixels, and how they turn with the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import StageError
from pipeline.stages import Region
from pipeline.stages.geometry import Box
from pipeline.stages.region import align, to_displayed, to_stored


def test_fractions_become_whole_pixels_outwards():
    assert Region(0.25, 0.25, 0.5, 0.5).pixels(1920, 1080) == (480, 270, 1440, 810)
    assert Region(0, 0, 1, 1).pixels(641, 481) == (0, 0, 641, 481)
    assert Region(0.5, 0.5, 0.1, 0.1).pixels(15, 15) == (7, 7, 9, 9)


@settings(deadline=None)
@given(st.integers(1, 98), st.integers(1, 99), st.integers(2, 40))
def test_a_boundary_on_a_whole_pixel_is_not_pushed_by_floating_point(start, length, hundreds):
    size, length = hundreds * 100, min(length, 100 - start)
    left, top, right, bottom = Region(start / 100, start / 100, length / 100, length / 100).pixels(size, size)
    assert (left, right) == (top, bottom) == (start * hundreds, (start + length) * hundreds)


def test_pixels_are_taken_as_they_are():
    assert Region(10, 20, 30, 40, "pixels").pixels(100, 100) == (10, 20, 40, 60)


def test_four_numbers_tell_their_unit():
    assert Region.of([0.1, 0, 0.5, 1]).unit == "fraction"
    assert Region.of((0, 0, 640, 360)).unit == "pixels"
    with pytest.raises(ValueError, match="not 3"):
        Region.of([1, 2, 3])


@pytest.mark.parametrize(
    "values",
    [(-0.1, 0, 1, 1), (0, 0, 0, 1), (0, 0, 1, -1), (0.6, 0, 0.5, 1), (0, 0.6, 1, 0.5), (float("nan"), 0, 1, 1)],
)
def test_impossible_regions_are_refused(values):
    with pytest.raises(ValueError, match="region"):
        Region(*values)


def test_a_region_in_pixels_beyond_the_picture_is_refused_with_both_sizes():
    with pytest.raises(StageError, match=r"\(700, 100\).*640x480"):
        Region(600, 0, 100, 100, "pixels").pixels(640, 480)


@settings(deadline=None)
@given(st.sampled_from([0, 90, 180, 270]), st.data())
def test_a_region_turns_with_the_picture(rotation, data):
    columns, rows = data.draw(st.integers(2, 40)), data.draw(st.integers(2, 40))
    stored = np.arange(rows * columns).reshape(rows, columns)
    displayed = np.rot90(stored, -rotation // 90)
    height, width = displayed.shape
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Box(x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    there = to_stored(box, columns, rows, rotation)
    cut = stored[there.y : there.y + there.height, there.x : there.x + there.width]
    seen = displayed[box.y : box.y + box.height, box.x : box.x + box.width]
    assert np.array_equal(np.rot90(cut, -rotation // 90), seen)
    assert to_displayed(there, columns, rows, rotation) == box


@settings(deadline=None)
@given(st.integers(2, 50), st.sampled_from([1, 2, 4]), st.data())
def test_alignment_grows_to_whole_chroma_samples_and_no_further(size, step, data):
    start = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(1, size - start))
    grown = align(Box(start, start, length, length), step, step, size, size)
    end = grown.x + grown.width
    assert grown == (grown.x, grown.x, grown.width, grown.width)
    assert grown.x <= start
    assert end >= start + length
    assert grown.x % step == 0
    assert end % step == 0 or end == size
    assert start - grown.x < step
    assert end - (start + length) < step
