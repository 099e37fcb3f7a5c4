# SPDX-License-Identifier: Apache-2.0
"""A pinhole camera over a flat world: x to the right, y away from the camera, z up, all in metres."""

from dataclasses import dataclass
from functools import lru_cache
from math import cos, radians, sin

import numpy as np

from .arrays import Floats


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the camera stands and how it looks. `focal_px` is in pixels of the finished picture."""

    width: int
    height: int
    focal_px: float
    position: tuple[float, float, float]
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0

    def basis(self) -> Floats:
        """Rows: right, up and forward of the camera in world coordinates; (3, 3) float32."""
        return _basis(self.yaw_deg, self.pitch_deg)

    def project(self, points: Floats, scale: float = 1.0) -> Floats:
        """World points (n, 3) to (n, 3): column, row (pixels times `scale`) and depth in metres along the axis."""
        local = (np.asarray(points, np.float32) - np.asarray(self.position, np.float32)) @ self.basis().T
        depth = np.maximum(local[:, 2], 0.05)
        focal = self.focal_px * scale
        columns = self.width * scale / 2 + focal * local[:, 0] / depth
        rows = self.height * scale / 2 - focal * local[:, 1] / depth
        return np.stack([columns, rows, depth], axis=1).astype(np.float32)

    def rays(self, scale: float, first_row: int, last_row: int) -> Floats:
        """Directions through the pixel centres of rows [first_row, last_row) of the picture enlarged by `scale`.

        Each direction has length 1 along the camera's axis, so a hit at parameter t lies at depth t; (rows, width, 3).
        """
        width = round(self.width * scale)
        columns = (np.arange(width, dtype=np.float32) + 0.5 - self.width * scale / 2) / (self.focal_px * scale)
        rows = (np.arange(first_row, last_row, dtype=np.float32) + 0.5 - self.height * scale / 2) / (
            self.focal_px * scale
        )
        right, up, forward = self.basis()
        return np.asarray(forward + columns[None, :, None] * right - rows[:, None, None] * up, np.float32)


@lru_cache(maxsize=16)
def _basis(yaw_deg: float, pitch_deg: float) -> Floats:
    yaw, pitch = radians(yaw_deg), radians(pitch_deg)
    forward = np.array([sin(yaw) * cos(pitch), cos(yaw) * cos(pitch), sin(pitch)])
    right = np.array([cos(yaw), -sin(yaw), 0.0])
    return np.stack([right, np.cross(right, forward), forward]).astype(np.float32)
