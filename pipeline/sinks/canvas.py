# SPDX-License-Identifier: Apache-2.0
"""Two things to draw on, an encoder's YUV planes and a BGR picture: both can fill a rectangle and stamp text."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.frame import Matrix, Uint8Array


class Colour(NamedTuple):
    """A colour in sRGB, each 0..255."""

    red: int
    green: int
    blue: int


# Weights of red and blue in luma (ITU-R BT.601-7, 2.5.1; BT.709-6, 3.2).
LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


class Canvas(Protocol):
    """Coordinates are whole, even pixels within the picture; the painter takes care of that."""

    width: int
    height: int

    def fill(self, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
        """Paint the rectangle [left, right) x [top, bottom)."""
        ...

    def stamp(self, left: int, top: int, mask: Uint8Array, ink: Colour, paper: Colour) -> None:
        """Paint ``mask``, from ``paper`` where it is 0 to ``ink`` where it is 255; cut off at the picture's edges."""
        ...


class BgrCanvas:
    """A BGR picture (rows, columns, 3), uint8; drawn into."""

    def __init__(self, picture: Uint8Array) -> None:
        self.picture = picture
        self.height, self.width = picture.shape[:2]

    def fill(self, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
        """See :class:`Canvas`."""
        self.picture[top:bottom, left:right] = colour[::-1]

    def stamp(self, left: int, top: int, mask: Uint8Array, ink: Colour, paper: Colour) -> None:
        """See :class:`Canvas`."""
        space = self.picture[top : top + mask.shape[0], left : left + mask.shape[1]]
        seen = mask[: space.shape[0], : space.shape[1]]
        for channel in range(3):
            space[:, :, channel] = _ramp(paper[2 - channel], ink[2 - channel])[seen]


class YuvCanvas:
    """Limited-range 4:2:0 planes of an even-sized picture; drawn into without any conversion of the picture."""

    def __init__(self, y: Uint8Array, u: Uint8Array, v: Uint8Array, matrix: Matrix) -> None:
        self.planes = (y, u, v)
        self.matrix: Matrix = matrix
        self.height, self.width = y.shape

    def fill(self, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
        """See :class:`Canvas`."""
        luma, cb, cr = limited_yuv(colour, self.matrix)
        y, u, v = self.planes
        y[top:bottom, left:right] = luma
        u[top // 2 : bottom // 2, left // 2 : right // 2] = cb
        v[top // 2 : bottom // 2, left // 2 : right // 2] = cr

    def stamp(self, left: int, top: int, mask: Uint8Array, ink: Colour, paper: Colour) -> None:
        """See :class:`Canvas`."""
        inks, papers = limited_yuv(ink, self.matrix), limited_yuv(paper, self.matrix)
        half = (mask[::2, ::2] >> 1) + (mask[1::2, 1::2] >> 1)  # two of four samples are enough for chroma
        for plane, seen, step, begin, end in zip(self.planes, (mask, half, half), (1, 2, 2), papers, inks, strict=True):
            space = plane[top // step :, left // step :][: seen.shape[0], : seen.shape[1]]
            space[:] = _ramp(begin, end)[seen[: space.shape[0], : space.shape[1]]]


@lru_cache(maxsize=256)
def limited_yuv(colour: Colour, matrix: Matrix) -> tuple[int, int, int]:
    """``colour`` as 8-bit Y'CbCr of limited range (ITU-R BT.601-7, 2.5; BT.709-6, 3 and 4)."""
    red, green, blue = (value / 255 for value in colour)
    weight_red, weight_blue = LUMA_WEIGHTS[matrix]
    luma = weight_red * red + (1 - weight_red - weight_blue) * green + weight_blue * blue
    cb = (blue - luma) / (2 - 2 * weight_blue)
    cr = (red - luma) / (2 - 2 * weight_red)
    return round(16 + 219 * luma), round(128 + 224 * cb), round(128 + 224 * cr)


@lru_cache(maxsize=1024)
def _ramp(begin: int, end: int) -> Uint8Array:
    """256 steps from ``begin`` to ``end``: a blend as one look-up."""
    return np.rint(np.linspace(begin, end, 256)).astype(np.uint8)
