# SPDX-License-Identifier: Apache-2.0
"""The things that stand in a scene, and where a ray meets them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .arrays import Floats
from .noise import look_up, tile

Surface = Callable[[Floats, Floats], tuple[Floats, Floats]]
"""(points (n, 3), normals (n, 3)) -> (albedo (n, 3), own light (n, 3)), both linear."""
FAR = np.float32(1e6)


@dataclass(frozen=True, slots=True)
class Ground:
    """The plane z = 0."""

    surface: Surface
    polish: float = 0.0

    def meet(self, origin: Floats, rays: Floats) -> Floats:
        """Parameter of the first hit along each ray, FAR where there is none."""
        down = rays[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = -origin[..., 2] / down
        return np.where((down < -1e-6) & (t > 1e-3), t, FAR).astype(np.float32)

    def normals(self, points: Floats) -> Floats:
        """Outward unit normals at points of the surface."""
        return np.broadcast_to(np.array([0, 0, 1], np.float32), points.shape)


@dataclass(frozen=True, slots=True)
class Box:
    """An upright block between two corners."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    surface: Surface
    shade: bool = True  # casts shadows
    polish: float = 0.0

    def meet(self, origin: Floats, rays: Floats) -> Floats:
        """Parameter of the first hit along each ray, FAR where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1.0 / np.where(np.abs(rays) < 1e-7, np.float32(1e-7), rays)
            first = (np.asarray(self.low, np.float32) - origin) * inverse
            second = (np.asarray(self.high, np.float32) - origin) * inverse
        low, high = np.minimum(first, second), np.maximum(first, second)
        # Column by column: numpy's reductions over an axis of three are twenty times slower.
        near = np.maximum(np.maximum(low[:, 0], low[:, 1]), low[:, 2])
        far = np.minimum(np.minimum(high[:, 0], high[:, 1]), high[:, 2])
        return np.where((near < far) & (near > 1e-3), near, FAR).astype(np.float32)

    def normals(self, points: Floats) -> Floats:
        """Outward unit normals at points of the surface."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        gaps = np.concatenate([np.abs(points - low), np.abs(points - high)], axis=1)
        return np.asarray(_SIDES[gaps.argmin(axis=1)], np.float32)


_SIDES = np.concatenate([-np.eye(3), np.eye(3)]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Post:
    """An upright round column that may taper: radius at the bottom and at the top."""

    x: float
    y: float
    radius: float
    bottom: float
    top: float
    surface: Surface
    taper: float = 1.0  # radius at the top / radius at the bottom
    shade: bool = True
    polish: float = 0.0

    def meet(self, origin: Floats, rays: Floats) -> Floats:
        """Parameter of the first hit along each ray, FAR where there is none."""
        slope = self.radius * (self.taper - 1) / (self.top - self.bottom)
        at = origin - np.array([self.x, self.y, self.bottom], np.float32)
        base = self.radius + slope * at[..., 2]
        lean = slope * rays[:, 2]
        a = rays[:, 0] ** 2 + rays[:, 1] ** 2 - lean**2
        b = at[..., 0] * rays[:, 0] + at[..., 1] * rays[:, 1] - base * lean
        c = at[..., 0] ** 2 + at[..., 1] ** 2 - base**2
        inside = b * b - a * c
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (-b - np.sqrt(np.maximum(inside, 0))) / a
            z = origin[..., 2] + t * rays[:, 2]
        good = (inside > 0) & (t > 1e-3) & (z >= self.bottom) & (z <= self.top)
        return np.where(good, t, FAR).astype(np.float32)

    def normals(self, points: Floats) -> Floats:
        """Outward unit normals at points of the surface."""
        out = (points - np.array([self.x, self.y, 0], np.float32)) * np.array([1, 1, 0], np.float32)
        radius = np.linalg.norm(out, axis=1)
        out[:, 2] = radius * self.radius * (1 - self.taper) / (self.top - self.bottom)
        return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6), np.float32)


@dataclass(frozen=True, slots=True)
class Globe:
    """An ellipsoid: lamps, clipped shrubs, stones."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    surface: Surface
    shade: bool = True
    polish: float = 0.0

    def meet(self, origin: Floats, rays: Floats) -> Floats:
        """Parameter of the first hit along each ray, FAR where there is none."""
        radii = np.asarray(self.radii, np.float32)
        at = (origin - np.asarray(self.centre, np.float32)) / radii
        along = rays / radii
        a = np.einsum("ij,ij->i", along, along)
        b = along[:, 0] * at[..., 0] + along[:, 1] * at[..., 1] + along[:, 2] * at[..., 2]
        c = np.einsum("...j,...j->...", at, at) - 1
        inside = b * b - a * c
        t = (-b - np.sqrt(np.maximum(inside, 0))) / a
        return np.where((inside > 0) & (t > 1e-3), t, FAR).astype(np.float32)

    def normals(self, points: Floats) -> Floats:
        """Outward unit normals at points of the surface."""
        out = (points - np.asarray(self.centre, np.float32)) / np.asarray(self.radii, np.float32) ** 2
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), np.float32)


Solid = Ground | Box | Post | Globe


@dataclass(frozen=True, slots=True)
class Crown:
    """A tree's crown or any gappy thing that only dims sunlight: an ellipsoid full of leaves."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    seed: int = 0
    fill: float = 0.62  # share of the light that it takes

    def passes(self, points: Floats, rays: Floats) -> Floats:
        """Share of light in [0, 1] that comes through along each ray."""
        shape = Globe(self.centre, self.radii, lambda p, n: (p, n))
        hit = shape.meet(points, rays) < FAR
        # Leaves are looked up on the plane through the middle, square to the ray.
        centre = np.asarray(self.centre, np.float32)
        t = ((centre - points) * rays).sum(axis=1)
        at = points + t[:, None] * rays - centre
        leaves = look_up(
            tile(700 + self.seed, octaves=5, first=16, gain=0.7), at[:, 0] / 4.2, (at[:, 1] + at[:, 2]) / 4.2
        )
        edge = np.sqrt(((at / np.asarray(self.radii, np.float32)) ** 2).sum(axis=1))
        cover = np.clip((leaves + 1.2 * (self.fill * 2 - 1) + 1.5 * (0.75 - edge)) * 1.6 + 0.5, 0, 1)
        return np.where(hit, 1 - 0.92 * cover, 1).astype(np.float32)
