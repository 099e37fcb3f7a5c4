# SPDX-License-Identifier: Apache-2.0
"""YUV to RGB: the matrices of BT.601 and BT.709, limited and full range, as one 3 x 4 matrix each."""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from pipeline.frame import Matrix

Colour = Literal["rgb", "bgr"]

_LUMA: Final[dict[str, tuple[float, float]]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


@cache
def conversion(matrix: Matrix, full_range: bool, colour: Colour) -> npt.NDArray[np.float64]:
    """The affine map from 8-bit (Y, Cb, Cr) to 8-bit RGB or BGR: float64 (3, 4), read-only, to be rounded and clipped.

    From ITU-R BT.601-7 section 2.5 and BT.709-6 section 3: ``Y = Kr R + Kg G + Kb B``, ``Cb = (B - Y) / (2 - 2 Kb)``,
    ``Cr = (R - Y) / (2 - 2 Kr)``. Limited range has Y in 16..235 and chroma in 16..240 around 128, full range has both
    in 0..255 around 128 (as JFIF and H.264's ``video_full_range_flag`` define it).
    """
    kr, kb = _LUMA[matrix]
    kg = 1.0 - kr - kb
    luma, chroma, black = (1.0, 1.0, 0.0) if full_range else (255 / 219, 255 / 224, 16.0)
    red = [luma, 0.0, chroma * 2 * (1 - kr)]
    green = [luma, -chroma * 2 * (1 - kb) * kb / kg, -chroma * 2 * (1 - kr) * kr / kg]
    blue = [luma, chroma * 2 * (1 - kb), 0.0]
    rows = np.array([red, green, blue] if colour == "rgb" else [blue, green, red])
    affine = np.column_stack([rows, -rows @ np.array([black, 128.0, 128.0])])
    affine.flags.writeable = False
    return affine
