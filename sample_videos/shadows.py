# SPDX-License-Identifier: Apache-2.0
"""Shadows that moving people throw on the still scene, one light at a time.

Each light's shadow is drawn on the plane z = 0 as the height of whatever throws it. A point of the scene lies in shadow
when the ray from the light through it meets the plane where something higher than the point has been drawn.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from .arrays import Floats
from .parts import Loft, Part
from .scenery import Light
from .stage import Stage

PER_METRE = 48


class ShadowPlane:
    """A light's shadow plane over a rectangle of ground, and where each pixel of the picture looks into it."""

    def __init__(self, light: Light, stage: Stage, area: tuple[float, float, float, float], blur_px: float) -> None:
        self._light, self._area, self._blur = light, area, blur_px
        x0, y0, x1, y1 = area
        self._shape = (round((y1 - y0) * PER_METRE), round((x1 - x0) * PER_METRE))
        high, wide = stage.points.shape[:2]
        flat = self._to_plane(light.on_ground(stage.points.reshape(-1, 3)))
        self._columns = flat[:, 0].reshape(high, wide)
        self._rows = flat[:, 1].reshape(high, wide)
        self._heights = stage.points[..., 2] + 0.03
        self._floor = stage.floor > 0.5

    def _to_plane(self, ground: Floats) -> Floats:
        clipped = np.clip(ground - np.asarray(self._area[:2], np.float32), -100, 100)
        return (clipped * PER_METRE).astype(np.float32)

    def shade(self, people: list[list[Part]]) -> Floats:
        """Share of the light that people leave to each pixel, (h, w) in [0, 1]."""
        plane = np.zeros(self._shape, np.float32)
        pieces = [piece for parts in people for part in parts for piece in self._outline(part)]
        for height, outline in sorted(pieces, key=lambda piece: piece[0]):
            cv2.fillConvexPoly(plane, outline, height, cv2.LINE_8, 4)
        seen = cv2.remap(
            plane, self._columns, self._rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )
        dark = (seen > self._heights).astype(np.float32)
        return 1 - 0.96 * cv2.GaussianBlur(dark, (0, 0), self._blur)

    def _outline(self, part: Part) -> list[tuple[float, NDArray[np.int32]]]:
        """Convex pieces of one part's shadow with the height that throws them."""
        middle = 0.5 * (part.a + part.b) if isinstance(part, Loft) else part.centre
        towards, _, _ = self._light.towards(middle[None].astype(np.float32))
        ray = towards[0]
        if isinstance(part, Loft):
            axis = part.b - part.a
            across = _cross(axis, ray)
            across /= max(float(np.linalg.norm(across)), 1e-6)
            lateral = abs(float(across[0] * -part.front[1] + across[1] * part.front[0]))
            rows = part.profile
            radius = rows[:, 1] * lateral + rows[:, 2] * (1 - lateral)
            centres = part.a + rows[:, :1] * axis
            points = np.concatenate([centres + across * radius[:, None], centres - across * radius[:, None]])
            pieces = [points[[k, k + 1, len(rows) + k, len(rows) + k + 1]] for k in range(len(rows) - 1)]
        else:
            side = np.array([ray[1], -ray[0], 0.0], np.float32)
            side /= max(float(np.linalg.norm(side)), 1e-6)
            over = _cross(side, ray)
            turn = np.linspace(0, 2 * np.pi, 10, endpoint=False)[:, None]
            half = 0.5 * (part.radii[0] + part.radii[1])
            pieces = [part.centre + half * np.cos(turn) * side + part.radii[2] * np.sin(turn) * over]
        result = []
        for points in pieces:
            flat = self._to_plane(self._light.on_ground(np.asarray(points, np.float32)))
            hull = np.asarray(cv2.convexHull(np.round(flat * 16).astype(np.int32)), np.int32)
            result.append((max(float(points[:, 2].mean()), 0.05), hull))
        return result


def _cross(a: Floats, b: Floats) -> Floats:
    # np.cross spends ten times as long on checking shapes.
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]], np.float32)


def contact(stage: Stage, people: list[list[Part]], area: tuple[float, float, float, float]) -> Floats:
    """Share of the ambient light that reaches the ground beside people's feet, (h, w) in [0, 1]."""
    x0, y0, x1, y1 = area
    per_metre = 16
    plane = np.zeros((round((y1 - y0) * per_metre), round((x1 - x0) * per_metre)), np.float32)
    blobs = []
    for parts in people:
        for part in parts:
            if not isinstance(part, Loft):
                continue
            low = part.a if part.a[2] < part.b[2] else part.b
            if low[2] < 0.7:
                weight = float(1 - max(low[2], 0) / 0.7) * (1.0 if low[2] < 0.12 else 0.35)
                at = (round(float(low[0] - x0) * per_metre * 16), round(float(low[1] - y0) * per_metre * 16))
                blobs.append((weight, at))
    for weight, at in sorted(blobs):  # the darkest last, so that it stays
        cv2.circle(plane, at, round(0.12 * per_metre * 16), weight, -1, cv2.LINE_8, 4)
    plane = 0.45 * cv2.GaussianBlur(plane, (0, 0), 0.09 * per_metre) + 0.55 * cv2.GaussianBlur(
        plane, (0, 0), 0.3 * per_metre
    )
    columns = (stage.points[..., 0] - x0) * per_metre
    rows = (stage.points[..., 1] - y0) * per_metre
    dark = cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return 1 - np.clip(dark, 0, 1) * 0.75 * (stage.points[..., 2] < 0.02)
