# SPDX-License-Identifier: Apache-2.0
"""The planes of a picture: what is accepted, how chroma is sub-sampled, and how planes are cropped."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from pipeline.errors import StageError
from pipeline.frame import Picture, Uint8Array
from pipeline.stages.geometry import Box

_FACTORS: Final = (1, 2, 4)
_PLANES: Final = {"yuv": (3, 2), "rgb": (1, 3), "gray": (1, 2)}  # number of planes, and dimensions of each


def sampling(picture: Picture) -> tuple[int, int]:
    """How many pixels share one chroma sample, across and down; (1, 1) where there is no chroma.

    4:4:4 is (1, 1), 4:2:2 (2, 1), 4:2:0 (2, 2), 4:1:1 (4, 1). An odd picture has ``ceil(size / factor)`` samples.

    Raises:
        StageError: the planes are not what :class:`pipeline.frame.Picture` says they are, or fewer than 2 x 2 pixels.
    """
    planes = picture.planes
    if picture.layout not in _PLANES:
        raise StageError(f"a picture of layout {picture.layout!r} cannot be prepared; expected yuv, rgb or gray")
    count, dimensions = _PLANES[picture.layout]
    if len(planes) != count:
        raise StageError(f"a picture of layout {picture.layout} has {count} planes, not {len(planes)}")
    for plane in planes:
        if plane.dtype != np.uint8 or plane.ndim != dimensions:
            raise StageError(
                f"a plane of layout {picture.layout} is uint8 with {dimensions} dimensions, "
                f"not {plane.dtype} of shape {plane.shape}; convert the source to 8 bits"
            )
    rows, columns = planes[0].shape[:2]
    if rows < 2 or columns < 2:
        raise StageError(f"a picture of {columns}x{rows} pixels is too small; at least 2x2 are needed")
    if picture.layout == "rgb" and planes[0].shape[2] != 3:
        raise StageError(f"an rgb plane has 3 channels, not {planes[0].shape[2]}")
    if picture.layout != "yuv":
        return 1, 1
    return _factor(columns, planes, 1), _factor(rows, planes, 0)


def _factor(size: int, planes: tuple[Uint8Array, ...], axis: int) -> int:
    first, second = planes[1].shape[axis], planes[2].shape[axis]
    for factor in _FACTORS:
        if first == second == math.ceil(size / factor):
            return factor
    raise StageError(
        f"chroma planes of shape {planes[1].shape} and {planes[2].shape} do not fit luma of shape {planes[0].shape}; "
        "expected the same size, a half or a quarter per axis"
    )


def crop(picture: Picture, box: Box, step_x: int, step_y: int) -> tuple[Uint8Array, ...]:
    """Views of the planes inside ``box`` (stored pixels, aligned to the sampling ``step_x`` x ``step_y``)."""
    right, bottom = box.x + box.width, box.y + box.height
    first = picture.planes[0][box.y : bottom, box.x : right]
    if picture.layout != "yuv":
        return (first,)
    rows = slice(box.y // step_y, -(-bottom // step_y))
    columns = slice(box.x // step_x, -(-right // step_x))
    return first, picture.planes[1][rows, columns], picture.planes[2][rows, columns]
