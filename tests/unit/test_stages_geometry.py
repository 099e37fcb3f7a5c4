# SPDX-License-Identifier: Apache-2.0
"""Where a picture lies in a network input: the two conventions re-derived, and the way there and back."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import StageError
from pipeline.frame import InputSpec
from pipeline.stages import fit
from pipeline.stages.geometry import place
from tests.boxes import to_network

SIZES = st.integers(2, 4096)
NETWORKS = st.sampled_from([(352, 352), (384, 640), (640, 640), (321, 415), (32, 64), (1, 1)])
FITS = st.sampled_from(["letterbox", "top_left", "stretch"])


def inner(geometry, width, height):
    """Size of the resized picture in network pixels, as the geometry says."""
    return geometry.scale_x * width, geometry.scale_y * height


@settings(deadline=None)
@given(SIZES, SIZES, NETWORKS)
def test_letterbox_follows_the_convention_of_ultralytics(width, height, network):
    rows, columns = network
    # Ultralytics' LetterBox in its own words: ratio, unpadded size, then half the gap with a bias of 0.1 to each side.
    ratio = min(rows / height, columns / width)
    new_unpad = round(width * ratio), round(height * ratio)
    gap_x, gap_y = (columns - new_unpad[0]) / 2, (rows - new_unpad[1]) / 2
    top, bottom = round(gap_y - 0.1), round(gap_y + 0.1)
    left, right = round(gap_x - 0.1), round(gap_x + 0.1)

    geometry = fit(width, height, InputSpec(rows, columns))
    inner_width, inner_height = inner(geometry, width, height)
    if 0 in new_unpad:  # that convention has no answer for a picture that thin
        assert min(inner_width, inner_height) == pytest.approx(1.0)
        return
    assert (geometry.pad_x, geometry.pad_y) == (left, top)
    assert inner_width == pytest.approx(columns - left - right)
    assert inner_height == pytest.approx(rows - top - bottom)


@settings(deadline=None)
@given(SIZES, SIZES, NETWORKS)
def test_top_left_follows_the_convention_of_yolox(width, height, network):
    rows, columns = network
    ratio = min(rows / height, columns / width)  # YOLOX preproc: int() of the products, pasted at the origin
    geometry = fit(width, height, InputSpec(rows, columns, fit="top_left"))
    assert (geometry.pad_x, geometry.pad_y) == (0.0, 0.0)
    expected = max(1, int(width * ratio)), max(1, int(height * ratio))
    assert inner(geometry, width, height) == pytest.approx(expected)


@settings(deadline=None)
@given(SIZES, SIZES, NETWORKS)
def test_stretch_fills_the_input(width, height, network):
    geometry = fit(width, height, InputSpec(*network, fit="stretch"))
    assert inner(geometry, width, height) == pytest.approx((network[1], network[0]))
    assert (geometry.pad_x, geometry.pad_y) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("source", "network", "size", "pad"),
    [
        ((1920, 1080), (352, 352), (352, 198), (0, 77)),
        ((1280, 720), (384, 640), (640, 360), (0, 12)),
        ((1080, 1920), (352, 352), (198, 352), (77, 0)),
        ((640, 481), (640, 640), (640, 481), (0, 79)),  # a gap of 159 rows: 79 above, 80 below
        ((100, 100), (50, 53), (50, 50), (1, 0)),
        ((4000, 3), (32, 32), (32, 1), (0, 15)),
    ],
)
def test_letterbox_by_hand(source, network, size, pad):
    geometry = fit(*source, InputSpec(*network))
    assert inner(geometry, *source) == pytest.approx(size)
    assert (geometry.pad_x, geometry.pad_y) == pad


@settings(deadline=None)
@given(SIZES, SIZES, NETWORKS, FITS)
def test_the_scales_are_the_exact_quotient_of_whole_pixels(width, height, network, how):
    geometry = fit(width, height, InputSpec(*network, fit=how))
    for scale, size, limit in ((geometry.scale_x, width, network[1]), (geometry.scale_y, height, network[0])):
        pixels = round(scale * size)
        assert scale == float(Fraction(pixels, size))
        assert 1 <= pixels <= limit


@st.composite
def boxes(draw):
    """A picture, perhaps a region of it, and a box inside what the network sees."""
    width, height = draw(SIZES), draw(SIZES)
    x, y, across, down = 0, 0, width, height
    if draw(st.booleans()):
        x, y = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
        across, down = draw(st.integers(2, width - x)), draw(st.integers(2, height - y))
    x1, x2 = sorted(draw(st.tuples(*[st.floats(x, x + across, width=32)] * 2)))
    y1, y2 = sorted(draw(st.tuples(*[st.floats(y, y + down, width=32)] * 2)))
    return width, height, (x, y, across, down), np.array([[x1, y1, x2, y2]], np.float32)


@settings(deadline=None)
@given(boxes(), st.sampled_from([(352, 352), (384, 640), (640, 640), (321, 415)]), FITS)
def test_there_and_back_is_the_same_box_to_a_thousandth_of_a_pixel(case, network, how):
    width, height, region, box = case
    geometry = fit(width, height, InputSpec(*network, fit=how), region)
    back = geometry.to_source(to_network(geometry, box))
    assert np.abs(back - box).max() <= 1e-3


@settings(deadline=None)
@given(SIZES, SIZES, NETWORKS, FITS)
def test_the_borders_of_the_picture_map_to_the_borders_of_its_place(width, height, network, how):
    geometry = fit(width, height, InputSpec(*network, fit=how))
    (x0, y0, x1, y1) = to_network(geometry, np.array([[0, 0, width, height]], np.float32))[0]
    for value in (x0, y0, x1, y1):
        assert value == pytest.approx(round(float(value)), abs=1e-4)
    assert 0 <= x0 < x1 <= network[1] + 1e-4
    assert 0 <= y0 < y1 <= network[0] + 1e-4


def test_a_region_is_offset_exactly_and_clipped_to_the_whole_picture():
    geometry = fit(1920, 1080, InputSpec(352, 352), (480, 270, 960, 540))
    assert (geometry.offset_x, geometry.offset_y) == (480.0, 270.0)
    assert (geometry.source_width, geometry.source_height) == (1920, 1080)
    assert geometry.scale_x == 352 / 960
    assert geometry.scale_y == 198 / 540
    network = np.array([[0, 77, 352, 275], [-1000, -1000, 2000, 2000]], np.float32)
    assert geometry.to_source(network) == pytest.approx(
        np.array([[480, 270, 1440, 810], [0, 0, 1920, 1080]], np.float32), abs=1e-3
    )


@pytest.mark.parametrize("size", [(1, 100), (100, 1), (0, 0), (-5, 7)])
def test_too_small_is_refused(size):
    with pytest.raises(StageError, match="too small"):
        fit(*size, InputSpec(32, 32))


@pytest.mark.parametrize("region", [(-1, 0, 10, 10), (0, -1, 10, 10), (91, 0, 10, 10), (0, 91, 10, 10)])
def test_a_region_beyond_the_picture_is_refused(region):
    with pytest.raises(StageError, match="leaves the picture"):
        fit(100, 100, InputSpec(32, 32), region)


def test_no_scale_is_ever_zero_or_infinite():
    for how in ("letterbox", "top_left", "stretch"):
        geometry = fit(4096, 2, InputSpec(32, 32, fit=how))
        assert math.isfinite(1 / geometry.scale_x)
        assert math.isfinite(1 / geometry.scale_y)


@given(
    width=st.integers(2, 8000),
    height=st.integers(2, 8000),
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    trim=st.sampled_from([8, 32, 64]),
    how=st.sampled_from(["letterbox", "top_left"]),
)
def test_a_trimmed_input_shows_the_picture_at_the_same_scale(width, height, rows, columns, trim, how):
    spec = InputSpec(rows * trim, columns * trim, fit=how, trim=trim)
    trimmed = spec.trimmed(width, height)
    whole, part = place(width, height, spec), place(width, height, trimmed)
    assert (part.width, part.height) == (whole.width, whole.height)
    assert trimmed.height % trim == trimmed.width % trim == trimmed.trim == 0
    assert trimmed.height <= spec.height
    assert trimmed.width <= spec.width
    assert trimmed.height - part.height <= trim, "half a pixel may be rounded down after it was given room"
    assert trimmed.width - part.width <= trim


def test_nothing_is_trimmed_unless_the_network_allows_it() -> None:
    assert InputSpec(352, 352).trimmed(1920, 1080) == InputSpec(352, 352)
    assert InputSpec(352, 352, fit="stretch", trim=32).trimmed(1920, 1080) == InputSpec(352, 352, fit="stretch")
    assert InputSpec(352, 352, trim=32).trimmed(1920, 1080) == InputSpec(224, 352)
