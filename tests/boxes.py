# SPDX-License-Identifier: Apache-2.0
"""Where a box of the source lies in the network's input: the way that the program itself only goes backwards."""

from __future__ import annotations

import numpy as np

from pipeline.frame import FloatArray, Geometry


def to_network(geometry: Geometry, xyxy: FloatArray) -> FloatArray:
    """Boxes (n, 4) from source pixels to network pixels, float32."""
    scale = np.array([geometry.scale_x, geometry.scale_y] * 2, np.float64)
    pad = np.array([geometry.pad_x, geometry.pad_y] * 2, np.float64)
    offset = np.array([geometry.offset_x, geometry.offset_y] * 2, np.float64)
    return ((xyxy.astype(np.float64) - offset) * scale + pad).astype(np.float32)
