# SPDX-License-Identifier: Apache-2.0
"""Brings a decoded picture of any layout into an encoder's planes: upright, 4:2:0, limited range, even-sized."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.frame import Matrix, Picture, Uint8Array
from pipeline.sinks.canvas import LUMA_WEIGHTS

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}

# Full range 0..255 to limited 16..235 (luma) and 16..240 (chroma), ITU-T T.871 to ITU-R BT.601.
_LUMA_TO_LIMITED: Uint8Array = np.rint(16 + np.arange(256) * (219 / 255)).astype(np.uint8)
_CHROMA_TO_LIMITED: Uint8Array = np.rint(128 + (np.arange(256) - 128) * (224 / 255)).astype(np.uint8)
_TO_LIMITED = (_LUMA_TO_LIMITED, _CHROMA_TO_LIMITED, _CHROMA_TO_LIMITED)


def even(length: int) -> int:
    """``length`` or one more: what 4:2:0 needs."""
    return length + length % 2


def fill_planes(picture: Picture, y: Uint8Array, u: Uint8Array, v: Uint8Array) -> None:
    """Write ``picture`` into the planes.

    Args:
        picture: any layout, sub-sampling, range and rotation. ``gray`` is taken as 0..255.
        y: (even rows, even columns) as displayed; the last row or column of an odd picture is repeated.
        u, v: half of that.
    """
    if picture.layout == "yuv":
        for plane, into, table in zip(picture.planes, (y, u, v), _TO_LIMITED, strict=True):
            upright = _turned(plane, picture.rotation)
            _copy(_looked_up(upright, table) if picture.full_range else upright, into, chroma=into is not y)
    elif picture.layout == "rgb":
        rgb = _turned(picture.planes[0], picture.rotation)
        yuv = np.asarray(cv2.transform(rgb, _rgb_to_yuv(picture.matrix)), np.uint8)
        _copy(yuv[:, :, 0], y, chroma=False)
        for channel, into in ((1, u), (2, v)):
            whole = np.empty_like(y)
            _copy(yuv[:, :, channel], whole, chroma=False)
            _copy(whole, into, chroma=True)
    else:
        _copy(_looked_up(_turned(picture.planes[0], picture.rotation), _LUMA_TO_LIMITED), y, chroma=False)
        u[:] = 128
        v[:] = 128


def _turned(plane: Uint8Array, rotation: int) -> Uint8Array:
    return np.asarray(cv2.rotate(plane, _TURNS[rotation]), np.uint8) if rotation else plane


def _looked_up(plane: Uint8Array, table: Uint8Array) -> Uint8Array:
    return np.asarray(cv2.LUT(plane, table), np.uint8)


def _copy(plane: Uint8Array, into: Uint8Array, *, chroma: bool) -> None:
    rows, columns = plane.shape
    if chroma and plane.shape != into.shape:
        # Averaging when it shrinks, interpolating when it grows (4:1:1): what INTER_AREA does.
        cv2.resize(plane, into.shape[::-1], dst=into, interpolation=cv2.INTER_AREA)
        return
    into[:rows, :columns] = plane
    if columns < into.shape[1]:
        into[:rows, columns:] = plane[:, -1:]
    if rows < into.shape[0]:
        into[rows:] = into[rows - 1]


@lru_cache(maxsize=2)
def _rgb_to_yuv(matrix: Matrix) -> npt.NDArray[np.float32]:
    """(3, 4) for cv2.transform: R'G'B' 0..255 to limited Y'CbCr (ITU-R BT.601-7, 2.5; BT.709-6, 3)."""
    red, blue = LUMA_WEIGHTS[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    cb = (np.array([0, 0, 1]) - luma) / (2 - 2 * blue)
    cr = (np.array([1, 0, 0]) - luma) / (2 - 2 * red)
    rows = np.stack([luma * 219 / 255, cb * 224 / 255, cr * 224 / 255])
    return np.hstack([rows, [[16.0], [128.0], [128.0]]]).astype(np.float32)
