# SPDX-License-Identifier: Apache-2.0
"""Colours against the standards: known code values, and BT.601 / BT.709 re-derived in double precision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.frame import InputSpec, Picture
from pipeline.stages import Letterbox, full_picture
from pipeline.stages.colour import conversion

STANDARDS = list(itertools.product(["bt601", "bt709"], [False, True]))

# Code values (Y, Cb, Cr) of full-amplitude colours in limited range, as published for 100 % colour bars.
BARS = {
    "bt601": {
        (255, 255, 255): (235, 128, 128),
        (255, 255, 0): (210, 16, 146),
        (0, 255, 255): (170, 166, 16),
        (0, 255, 0): (145, 54, 34),
        (255, 0, 255): (106, 202, 222),
        (255, 0, 0): (81, 90, 240),
        (0, 0, 255): (41, 240, 110),
        (0, 0, 0): (16, 128, 128),
    },
    "bt709": {
        (255, 255, 255): (235, 128, 128),
        (255, 255, 0): (219, 16, 138),
        (0, 255, 255): (188, 154, 16),
        (0, 255, 0): (173, 42, 26),
        (255, 0, 255): (78, 214, 230),
        (255, 0, 0): (63, 102, 240),
        (0, 0, 255): (32, 240, 118),
        (0, 0, 0): (16, 128, 128),
    },
}


pytestmark = pytest.mark.usefixtures("one_thread")


def decode(yuv, matrix, full_range):
    """The standards' equations solved for R, G, B, in float64: independent of any 3 x 3 matrix."""
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
    y, cb, cr = (np.asarray(yuv, np.float64)[..., i] for i in range(3))
    if full_range:
        y, cb, cr = y / 255, (cb - 128) / 255, (cr - 128) / 255
    else:
        y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    red = y + 2 * (1 - kr) * cr
    blue = y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(255 * np.stack([red, green, blue], -1), 0, 255)


def flat(yuv, rows=8, columns=8, **form):
    y, u, v = (
        np.full(shape, value, np.uint8)
        for shape, value in zip([(rows, columns)] + [(rows // 2, columns // 2)] * 2, yuv, strict=True)
    )
    return Picture((y, u, v), "yuv", **form)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_colour_bars_have_their_published_colours(matrix):
    spec = InputSpec(8, 8)
    for rgb, yuv in BARS[matrix].items():
        out = np.empty(spec.shape, np.uint8)
        Letterbox().prepare(flat(yuv, matrix=matrix), spec, out)
        assert np.abs(out.astype(int) - rgb).max() <= 2, (rgb, out[0, 0])


@pytest.mark.parametrize(("matrix", "full_range"), STANDARDS)
def test_the_matrix_solves_the_equations_of_the_standard(matrix, full_range):
    yuv = np.stack(np.meshgrid(*[np.linspace(40, 200, 9)] * 3), -1).reshape(-1, 3)
    affine = conversion(matrix, full_range, "rgb")
    found = np.clip(yuv @ affine[:, :3].T + affine[:, 3], 0, 255)
    assert np.abs(found - decode(yuv, matrix, full_range)).max() < 1e-9


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize(("matrix", "full_range"), STANDARDS)
def test_every_code_value_is_converted_to_within_one_grey_level(matrix, full_range, colour):
    # A 4:4:4 picture that holds every 5th code value of each channel, extremes included: no resize, only colour.
    levels = np.arange(0, 256, 5)
    yuv = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(len(levels), -1, 3).astype(np.uint8)
    picture = Picture(tuple(np.ascontiguousarray(yuv[..., i]) for i in range(3)), "yuv", matrix, full_range)
    expected = decode(yuv, matrix, full_range)[..., :: 1 if colour == "rgb" else -1]
    spec = InputSpec(*yuv.shape[:2], colour=colour)
    out = np.empty(spec.shape, np.uint8)
    Letterbox().prepare(picture, spec, out)
    assert np.abs(out - expected).max() <= 1.0
    assert np.abs(full_picture(picture, colour) - expected).max() <= 1.0


@pytest.mark.parametrize(("matrix", "full_range"), STANDARDS)
def test_grey_stays_grey(matrix, full_range):
    luma = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    grey = np.full((4, 256), 128, np.uint8)
    rgb = full_picture(Picture((luma, grey, grey), "yuv", matrix, full_range), "rgb")
    assert np.abs(rgb.astype(int) - rgb[..., :1]).max() <= 1
    if full_range:
        assert np.array_equal(rgb[0, :, 1], luma[0])
    else:
        assert (rgb[0, 16, 0], rgb[0, 235, 0]) == (0, 255)


def test_rgb_and_grey_pictures_keep_their_values():
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (12, 20, 3), np.uint8)
    grey = rng.integers(0, 256, (12, 20), np.uint8)
    for colour, order in (("rgb", slice(None)), ("bgr", slice(None, None, -1))):
        spec = InputSpec(12, 20, colour=colour)
        out = np.empty(spec.shape, np.uint8)
        Letterbox().prepare(Picture((rgb,), "rgb"), spec, out)
        assert np.array_equal(out, rgb[..., order])
        assert np.array_equal(full_picture(Picture((rgb,), "rgb"), colour), rgb[..., order])
        Letterbox().prepare(Picture((grey,), "gray"), spec, out)
        assert np.array_equal(out, np.repeat(grey[..., None], 3, -1))
        assert np.array_equal(full_picture(Picture((grey,), "gray"), colour), out)
