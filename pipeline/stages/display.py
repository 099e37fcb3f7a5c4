# SPDX-License-Identifier: Apache-2.0
"""A decoded picture as people see it, in full size: for the video sink and the live view."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.errors import StageError
from pipeline.frame import Picture, Uint8Array
from pipeline.stages.colour import Colour, conversion
from pipeline.stages.planes import sampling
from pipeline.stages.reduce import Interleave
from pipeline.stages.turn import turn

_BAND = 64  # rows converted at a time, so that what is in between stays in the core's cache; a multiple of any step_y


def full_picture(picture: Picture, colour: Colour = "bgr") -> Uint8Array:
    """The whole picture, uint8 (height, width, 3), rotated for display and in true colours.

    Chroma is repeated, not interpolated, as most players do. ``gray`` is taken as it is, 0..255.

    Args:
        picture: any layout, sub-sampling and size from 2 x 2 pixels.
        colour: channel order.

    Returns:
        a new array: never a view of the decoder's memory, so it may be drawn upon.

    Raises:
        StageError: planes that do not fit together.
    """
    step_x, step_y = sampling(picture)
    out = np.empty((picture.height, picture.width, 3), np.uint8)
    rows, columns = picture.planes[0].shape[:2]
    stored = np.empty((rows, columns, 3), np.uint8) if picture.rotation else out
    try:
        if picture.layout == "yuv":
            _from_yuv(picture, step_x, step_y, colour, stored)
        elif picture.layout == "gray":
            cv2.cvtColor(picture.planes[0], cv2.COLOR_GRAY2RGB, stored)
        elif colour == "bgr":
            cv2.cvtColor(picture.planes[0], cv2.COLOR_RGB2BGR, stored)
        else:
            stored[:] = picture.planes[0]
        if picture.rotation:
            turn(stored, picture.rotation, out)
    except cv2.error as error:
        raise StageError(f"OpenCV could not convert the picture: {' '.join(str(error).split())}") from error
    return out


def _from_yuv(picture: Picture, step_x: int, step_y: int, colour: Colour, out: Uint8Array) -> None:
    luma, u, v = picture.planes
    rows, columns = luma.shape
    affine = conversion(picture.matrix, picture.full_range, colour)
    scratch = np.empty((_BAND, columns, 3), np.uint8)
    interleave = Interleave((columns, _BAND), step_x, step_y)
    for top in range(0, rows, _BAND):
        bottom = min(rows, top + _BAND)
        chroma = slice(top // step_y, -(-bottom // step_y))
        band = scratch[: bottom - top]
        interleave((luma[top:bottom], u[chroma], v[chroma]), band)
        cv2.transform(band, affine, out[top:bottom])
