# SPDX-License-Identifier: Apache-2.0
"""Full pictures for people: every form of picture, upright, in true colours, never the decoder's memory."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.frame import Picture
from pipeline.stages import full_picture
from pipeline.stages.colour import conversion

SAMPLINGS = [(1, 1), (2, 1), (2, 2), (1, 2), (4, 1), (4, 4)]
SIZES = [(2, 2), (8, 8), (63, 130), (64, 64), (65, 33), (130, 101), (129, 3)]  # around the bands of 64 rows


pytestmark = pytest.mark.usefixtures("one_thread")


def noise(rows, columns, step_x, step_y, **form):
    rng = np.random.default_rng(rows * 1000 + columns)
    chroma = (-(-rows // step_y), -(-columns // step_x))
    planes = tuple(rng.integers(0, 256, shape, np.uint8) for shape in ((rows, columns), chroma, chroma))
    return Picture(planes, "yuv", **form)


def reference(picture, step_x, step_y):
    """Each chroma sample repeated over its pixels by numpy, then the matrix in float64."""
    y, u, v = picture.planes
    rows, columns = y.shape
    u, v = (np.repeat(np.repeat(plane, step_y, 0), step_x, 1)[:rows, :columns] for plane in (u, v))
    affine = conversion(picture.matrix, picture.full_range, "rgb")
    rgb = np.stack([y, u, v], -1).astype(np.float64) @ affine[:, :3].T + affine[:, 3]
    return np.rot90(np.clip(rgb, 0, 255), -picture.rotation // 90)


@pytest.mark.parametrize("rows_columns", SIZES)
@pytest.mark.parametrize("steps", SAMPLINGS)
def test_every_pixel_has_its_luma_and_its_chroma_sample(rows_columns, steps):
    for rotation in (0, 90, 180, 270):
        picture = noise(*rows_columns, *steps, matrix="bt709", rotation=rotation)
        found = full_picture(picture, "rgb")
        assert found.shape == (picture.height, picture.width, 3)
        # Of a two-column picture, 4:1:1 and 4:2:2 look the same, and so do the values.
        assert np.abs(found - reference(picture, *steps)).max() <= 1.0


def test_bgr_is_the_default_and_rgb_reversed():
    picture = noise(20, 30, 2, 2)
    assert np.array_equal(full_picture(picture), full_picture(picture, "rgb")[..., ::-1])


@pytest.mark.parametrize("layout", ["rgb", "gray"])
def test_the_result_is_never_the_decoders_memory(layout):
    plane = np.full((6, 8, 3) if layout == "rgb" else (6, 8), 9, np.uint8)
    for colour in ("rgb", "bgr"):
        found = full_picture(Picture((plane,), layout), colour)
        assert not np.shares_memory(found, plane)
        assert found.flags.writeable


def test_planes_with_a_row_stride_and_read_only_planes_are_taken():
    picture = noise(48, 50, 2, 2)
    wide = [np.pad(plane, ((0, 0), (0, 14))) for plane in picture.planes]
    views = []
    for padded, plane in zip(wide, picture.planes, strict=True):
        padded.flags.writeable = False
        views.append(padded[:, : plane.shape[1]])
    assert np.array_equal(full_picture(Picture(tuple(views), "yuv")), full_picture(picture))
