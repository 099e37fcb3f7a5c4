# SPDX-License-Identifier: Apache-2.0
"""Bake the part of a scene that never moves: depth, and one layer of light per source that may change."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .arrays import Floats
from .camera import Camera
from .scenery import Card, Scenery, visible_light
from .solids import FAR, Ground, Solid

SCALE = 2  # samples per pixel, both ways
_BAND = 48  # rows of samples worked on at a time


@dataclass(frozen=True, slots=True)
class Stage:
    """The baked scene. Layers are linear light at picture size, (h, w, 3): `fill`, then one per light."""

    fill: Floats
    lit: tuple[Floats, ...]
    depth: Floats  # samples: (h * SCALE, w * SCALE)
    points: Floats  # world point of every pixel, (h, w, 3)
    floor: Floats  # 1 where the pixel shows ground, (h, w)
    polish: Floats  # share of a mirror image, (h, w)


def bake(scenery: Scenery, camera: Camera) -> Stage:
    """Cast rays through every sample of the picture. Takes seconds; done once per clip."""
    high, wide = camera.height * SCALE, camera.width * SCALE
    fill = np.zeros((high, wide, 3), np.float32)
    lit = [np.zeros((high, wide, 3), np.float32) for _ in scenery.lights]
    depth = np.full((high, wide), FAR, np.float32)
    points = np.zeros((high, wide, 3), np.float32)
    floor = np.zeros((high, wide), np.float32)
    polish = np.zeros((high, wide), np.float32)
    mirror = np.zeros((high, wide, 3), np.float32)
    openness = _openness(scenery, camera)
    for row in range(0, high, _BAND):
        end = min(row + _BAND, high)
        rays = camera.rays(SCALE, row, end).reshape(-1, 3)
        band = _Band(scenery, camera, rays, openness[row:end].reshape(-1))
        shape = (end - row, wide)
        fill[row:end] = band.fill.reshape(*shape, 3)
        for layer, part in zip(lit, band.lit, strict=True):
            layer[row:end] = part.reshape(*shape, 3)
        depth[row:end] = band.depth.reshape(shape)
        points[row:end] = band.points.reshape(*shape, 3)
        floor[row:end] = band.floor.reshape(shape)
        polish[row:end] = band.polish.reshape(shape)
        mirror[row:end] = band.mirror.reshape(*shape, 3)
    if polish.any():
        fill += _rough(mirror, polish, wide / 640)
    for card in sorted(scenery.cards, key=lambda card: -card.y):
        _paste(card, camera, scenery, fill, lit, depth)
    small = [_shrink(layer) for layer in (fill, *lit)]
    return Stage(small[0], tuple(small[1:]), depth, points[::SCALE, ::SCALE].copy(), _shrink(floor), _shrink(polish))


class _Band:
    """A few rows of samples, traced and lit."""

    def __init__(self, scenery: Scenery, camera: Camera, rays: Floats, openness: Floats) -> None:
        origin = np.asarray(camera.position, np.float32)
        count = len(rays)
        self.fill = np.zeros((count, 3), np.float32)
        self.lit = [np.zeros((count, 3), np.float32) for _ in scenery.lights]
        self.points = np.zeros((count, 3), np.float32)
        self.floor = np.zeros(count, np.float32)
        self.polish = np.zeros(count, np.float32)
        self.mirror = np.zeros((count, 3), np.float32)
        self.depth, which = _trace(scenery.solids, origin, rays)
        sky = which < 0
        self.fill[sky] = scenery.sky(rays[sky])
        self.points[sky] = origin + rays[sky] * 1000
        rng = np.random.default_rng(len(rays))
        for index, solid in enumerate(scenery.solids):
            here = which == index
            if here.any():
                self._shade(scenery, solid, origin, rays, here, openness, rng)
        colour, share = scenery.haze
        if share > 0:
            veil = (1 - np.exp(-share * self.depth))[:, None] * (~sky)[:, None]
            self.fill = self.fill * (1 - veil) + np.asarray(colour, np.float32) * veil
            self.lit = [layer * (1 - veil) for layer in self.lit]

    def _shade(
        self,
        scenery: Scenery,
        solid: Solid,
        origin: Floats,
        rays: Floats,
        here: NDArray[np.bool_],
        openness: Floats,
        rng: np.random.Generator,
    ) -> None:
        points = origin + rays[here] * self.depth[here, None]
        normals = solid.normals(points)
        albedo, glow = solid.surface(points, normals)
        self.points[here] = points
        up = 0.5 + 0.5 * normals[:, 2:3]
        ambient = np.asarray(scenery.above, np.float32) * up + np.asarray(scenery.below, np.float32) * (1 - up)
        self.fill[here] = albedo * ambient * openness[here, None] + glow
        lifted = points + 0.006 * normals
        for light, layer in zip(scenery.lights, self.lit, strict=True):
            directions, _, strength = light.towards(points)
            facing = np.einsum("ij,ij->i", directions, normals) * strength
            front = facing > 0
            share = np.zeros(len(points), np.float32)
            for _ in range(light.tries):
                # Every sample sees the light from another spot: neighbours average to a soft edge.
                shift = rng.standard_normal((len(points), 3)).astype(np.float32)
                share[front] += visible_light(scenery, light, lifted[front], shift[front])
            layer[here] = albedo * (facing * share / light.tries)[:, None] * np.asarray(light.colour, np.float32)
        if isinstance(solid, Ground):
            self.floor[here] = 1
        if solid.polish > 0:
            self._mirror(scenery, solid, points, normals, rays[here], here)

    def _mirror(
        self, scenery: Scenery, solid: Solid, points: Floats, normals: Floats, rays: Floats, here: NDArray[np.bool_]
    ) -> None:
        """A polished surface shows the static scene again, more so at a grazing angle (Schlick's formula)."""
        unit = rays / np.linalg.norm(rays, axis=1, keepdims=True)
        facing = -(unit * normals).sum(axis=1, keepdims=True)
        bounced = unit + 2 * facing * normals
        distance, which = _trace(scenery.solids, points + 0.005 * normals, bounced)
        seen = scenery.sky(bounced)
        for index, other in enumerate(scenery.solids):
            at = which == index
            if at.any():
                spots = points[at] + bounced[at] * distance[at, None]
                albedo, glow = other.surface(spots, other.normals(spots))
                seen[at] = albedo * np.asarray(scenery.above, np.float32) * 0.6 + glow
        share = (solid.polish * (0.06 + 0.94 * np.clip(1 - facing, 0, 1) ** 5)).astype(np.float32)
        self.fill[here] *= 1 - share
        self.mirror[here] = seen * share
        self.polish[here] = share[:, 0]


def _rough(mirror: Floats, polish: Floats, unit: float) -> Floats:
    """A mirror image blurred as a real floor blurs it, more in height than in breadth, and not beyond the floor."""
    shining = (polish > 0).astype(np.float32)
    image, weight = (cv2.GaussianBlur(layer, (0, 0), 1.6 * unit, sigmaY=4.5 * unit) for layer in (mirror, shining))
    return (image / np.maximum(weight, 0.05)[..., None] * shining[..., None]).astype(np.float32)


def _trace(solids: tuple[Solid, ...], origin: Floats, rays: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Nearest hit of each ray: parameter (FAR: none) and index of the solid (-1: none)."""
    best = np.full(len(rays), FAR, np.float32)
    which = np.full(len(rays), -1, np.int64)
    for index, solid in enumerate(solids):
        hit = solid.meet(origin, rays)
        nearer = hit < best
        best[nearer] = hit[nearer]
        which[nearer] = index
    return best, which


def _openness(scenery: Scenery, camera: Camera) -> Floats:
    """Share of the surroundings that each sample sees (ambient occlusion), worked out at half the picture's size."""
    shrink = 0.5
    high, wide = round(camera.height * shrink), round(camera.width * shrink)
    rays = camera.rays(shrink, 0, high).reshape(-1, 3)
    origin = np.asarray(camera.position, np.float32)
    depth, which = _trace(scenery.solids, origin, rays)
    points = origin + rays * np.minimum(depth, 1e4)[:, None]
    normals = np.zeros_like(points)
    for index, solid in enumerate(scenery.solids):
        here = which == index
        if here.any():
            normals[here] = solid.normals(points[here])
    rng = np.random.default_rng(7)
    hidden = np.zeros(len(points), np.float32)
    reach = scenery.indoors or 6.0
    tries = 16
    for _ in range(tries):
        way = rng.standard_normal((len(points), 3)).astype(np.float32)
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        way += (normals * 1.02).astype(np.float32)
        way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
        hit, _ = _trace(scenery.solids, points + 0.01 * normals, way)
        hidden += np.clip(1 - hit / reach, 0, 1)
    open_share = (1 - 0.85 * hidden / tries).astype(np.float32).reshape(high, wide)
    near = np.minimum(depth, 60).reshape(high, wide)
    smooth = _guided(open_share, near)
    size = (camera.width * SCALE, camera.height * SCALE)
    return np.asarray(cv2.resize(smooth, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _guided(values: Floats, depth: Floats) -> Floats:
    """Blur without crossing steps in depth: a bilateral mean over a 9 x 9 window."""
    total, weights = np.zeros_like(values), np.zeros_like(values)
    padded_v, padded_d = np.pad(values, 4, mode="edge"), np.pad(depth, 4, mode="edge")
    high, wide = values.shape
    for dy in range(9):
        for dx in range(9):
            other = padded_d[dy : dy + high, dx : dx + wide]
            weight = np.exp(-((other - depth) ** 2) / (0.02 * depth + 0.05) ** 2 / 2)
            total += weight * padded_v[dy : dy + high, dx : dx + wide]
            weights += weight
    return (total / weights).astype(np.float32)


def _paste(card: Card, camera: Camera, scenery: Scenery, fill: Floats, lit: list[Floats], depth: Floats) -> None:
    corners = np.array([[card.x, card.y, card.bottom], [card.x, card.y, card.bottom + card.height]], np.float32)
    (x, bottom, away), (_, top, _) = camera.project(corners, SCALE)
    width = card.width * camera.focal_px * SCALE / away
    w, h = max(round(float(width)), 2), max(round(float(bottom - top)), 2)
    premultiplied = card.picture.copy()
    premultiplied[..., :3] *= premultiplied[..., 3:]
    picture = cv2.resize(premultiplied, (w, h), interpolation=cv2.INTER_AREA)
    left, up = round(float(x - width / 2)), round(float(top))
    x0, x1, y0, y1 = max(left, 0), min(left + w, fill.shape[1]), max(up, 0), min(up + h, fill.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    piece = picture[y0 - up : y1 - up, x0 - left : x1 - left]
    alpha = piece[..., 3:] * (depth[y0:y1, x0:x1, None] > away)
    solid = alpha > 1e-3
    colour, share = scenery.haze
    veil = 1 - np.exp(-share * away)
    body = piece[..., :3] * (1 - veil) + np.asarray(colour, np.float32) * veil * piece[..., 3:]
    fill[y0:y1, x0:x1] = np.where(solid, fill[y0:y1, x0:x1] * (1 - alpha) + body, fill[y0:y1, x0:x1])
    for layer in lit:
        layer[y0:y1, x0:x1] *= 1 - alpha
    depth[y0:y1, x0:x1][alpha[..., 0] > 0.5] = away


def _shrink(layer: Floats) -> Floats:
    size = (layer.shape[1] // SCALE, layer.shape[0] // SCALE)
    return np.asarray(cv2.resize(layer, size, interpolation=cv2.INTER_AREA), np.float32)
