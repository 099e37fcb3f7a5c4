# SPDX-License-Identifier: Apache-2.0
"""Materials of buildings, ground and furniture: each maker returns a function from points to albedo and own light."""

import numpy as np

from .arrays import Floats
from .noise import cells, look_up, tile
from .parts import Rgb
from .solids import Surface


def plain(colour: Rgb, grain: float = 0.05, scale: float = 1.5, seed: int = 0) -> Surface:
    """One colour with a little uneven tone."""

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        u, v = across(points, normals)
        tone = 1 + grain * look_up(tile(40 + seed, size=512), u / (scale * 4), v / (scale * 4))
        return tinted(colour, tone), np.zeros_like(points)

    return surface


def glowing(colour: Rgb, light: Rgb) -> Surface:
    """A lamp: its own light, whatever falls on it."""

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        return tinted(colour, np.ones(len(points), np.float32)), tinted(light, np.ones(len(points), np.float32))

    return surface


def slabs(
    colour: Rgb,
    size: tuple[float, float],
    joint: float = 0.012,
    spread: float = 0.12,
    bond: float = 0.5,
    joint_tone: float = 0.5,
    band: tuple[float, Rgb] | None = None,
    seed: int = 0,
) -> Surface:
    """Slabs, tiles or bricks: `size` (along, across) metres, courses shifted by `bond`, each with its own tint.

    `band` = (spacing in metres, colour) lays a darker course of stones at that spacing, both ways.
    """

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        u, v = across(points, normals)
        row = np.floor(v / size[1])
        along = u / size[0] + bond * (row % 2)
        tint = cells(along, row + 0.5, 90 + seed) - 0.5
        rough = look_up(tile(41 + seed, size=512, octaves=6), u / 3.1, v / 3.1)
        stain = look_up(tile(42 + seed, size=256, octaves=3), u / 17, v / 17)
        tone = 1 + spread * tint * 2 + 0.05 * rough + 0.06 * stain
        colours = tinted(colour, tone)
        if band is not None:
            spacing, other = band
            course = (np.floor(v / size[1]) % round(spacing / size[1]) == 0) | (
                np.floor(u / size[0] + 1e-4) % round(spacing / size[0]) == 0
            )
            colours = np.where(course[:, None], tinted(other, tone), colours)
        gap = np.minimum(_to_line(along) * size[0], _to_line(v / size[1]) * size[1])
        line = np.clip(1.3 - gap / joint, 0, 1)[:, None]
        return (colours * (1 - (1 - joint_tone) * line)).astype(np.float32), np.zeros_like(points)

    return surface


def planks(colour: Rgb, width: float = 0.1, upright: bool = False, seed: int = 0) -> Surface:
    """Boards with grain."""

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        u, v = across(points, normals)
        if upright:
            u, v = v, u
        grain = look_up(tile(43 + seed, size=256, octaves=5), u / 4.0, v / 0.35)
        tint = cells(np.zeros_like(u), v / width, 93 + seed) - 0.5
        line = np.clip(1.2 - _to_line(v / width) * width / 0.008, 0, 1)
        return tinted(colour, (1 + 0.14 * grain + 0.2 * tint) * (1 - 0.6 * line)), np.zeros_like(points)

    return surface


def leaves(colour: Rgb, seed: int = 0) -> Surface:
    """A clipped hedge or shrub."""

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        fine = look_up(
            tile(44 + seed, size=512, octaves=6, first=16, gain=0.85),
            (points[:, 0] + 0.6 * points[:, 1]) / 2.4,
            (points[:, 2] + 0.5 * points[:, 1]) / 2.4,
        )
        return tinted(colour, np.clip(0.85 + 0.38 * fine, 0.15, 2.2)), np.zeros_like(points)

    return surface


def across(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
    """Two coordinates along a surface, metres: on walls (along, up), on level ground (x, y)."""
    level = np.abs(normals[:, 2]) > 0.7
    sideways = np.abs(normals[:, 0]) > np.abs(normals[:, 1])
    u = np.where(level | ~sideways, points[:, 0], points[:, 1])
    v = np.where(level, points[:, 1], points[:, 2])
    return u.astype(np.float32), v.astype(np.float32)


def tinted(colour: Rgb, tone: Floats) -> Floats:
    """A colour at every point, scaled by a tone; (n, 3)."""
    return (np.asarray(colour, np.float32) * tone[:, None]).astype(np.float32)


def _to_line(position: Floats) -> Floats:
    """Distance to the nearest whole number."""
    return np.abs(position - np.round(position))


def stripes(first: Rgb, second: Rgb, width: float) -> Surface:
    """Awning cloth: stripes across the wall's direction."""

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        u, v = across(points, normals)
        odd = np.floor(u / width) % 2 == 1
        tone = 1 + 0.05 * look_up(tile(45), u / 2, v / 2)
        return np.where(odd[:, None], tinted(second, tone), tinted(first, tone)), np.zeros_like(points)

    return surface


def facade(stone: Rgb, bay: float, seed: int) -> Surface:
    """A town house: plinth, round-headed windows under a string course, tall windows above."""
    wall = slabs(stone, (0.9, 0.45), joint=0.012, spread=0.06, joint_tone=0.8, seed=seed)

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        albedo, glow = wall(points, normals)
        u, z = across(points, normals)
        x = (u / bay - np.floor(u / bay) - 0.5) * bay
        blur = look_up(tile(60 + seed, octaves=3), u / 14, z / 9)
        glass = tinted((0.75, 0.9, 1.0), np.clip(0.09 + 0.012 * z + 0.025 * blur, 0.03, 0.3).astype(np.float32))
        for bottom, top, half, arched in ((0.45, 3.0, 1.05, True), (4.7, 6.9, 0.55, False)):
            spring = top - half if arched else top
            rise = np.maximum(z - spring, 0)
            span = np.hypot(x, rise) if arched else np.where(rise > 0, 9.0, np.abs(x))
            hole = (span < half) & (z > bottom) & (z < top + 0.01)
            rim = (span < half + 0.16) & (z > bottom - 0.12) & (z < top + 0.17) & ~hole
            bars = (np.abs(x) < 0.035) | (np.abs(z - spring) < 0.04) | (half - span < 0.06)
            # The wall is thick: its left and upper edge throw a shadow on the glass.
            inner = np.clip((0.28 - (x + half)) / 0.1, 0, 1) + np.clip(
                (0.2 - (half - span) * (z > spring)) / 0.1, 0, 1
            ) * (z > spring)
            pane = np.where(bars[:, None], np.array([0.11, 0.10, 0.09], np.float32), glass)
            pane = pane * (1 - 0.45 * np.clip(inner, 0, 1))[:, None]
            albedo = np.where(rim[:, None], albedo * 1.16, albedo)
            albedo = np.where(hole[:, None], pane, albedo)
        ledge = np.abs(z - 4.0) < 0.14
        albedo = np.where(ledge[:, None], albedo * 1.18, albedo)
        albedo = albedo * (1 - 0.3 * np.clip(1 - (3.86 - z) / 0.3, 0, 1) * (z < 3.86))[:, None]
        return np.where((z < 0.4)[:, None], albedo * 0.8, albedo).astype(np.float32), glow

    return surface


def lit_house(stone: Rgb, bay: float) -> Surface:
    """A house at dusk: two rows of windows, most of them warmly lit."""
    wall = slabs(stone, (0.8, 0.4), spread=0.06, joint_tone=0.85, seed=9)

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        albedo, glow = wall(points, normals)
        u, z = across(points, normals)
        x = (u / bay - np.floor(u / bay) - 0.5) * bay
        window = (np.abs(x) < 0.55) & ((np.abs(z - 1.5) < 0.75) | (np.abs(z - 4.1) < 0.65))
        bars = (np.abs(x) < 0.04) | (np.abs(z - 1.6) < 0.04) | (np.abs(z - 4.2) < 0.04)
        lamp = cells(u / bay, z / 2.8, 95)
        warm = np.where(lamp > 0.35, 0.35 + 0.9 * lamp, 0.03)[:, None] * np.array([1.0, 0.62, 0.26], np.float32)
        glow = np.where((window & ~bars & (normals[:, 1] < -0.5))[:, None], warm, glow)
        return np.where(window[:, None], 0.03, albedo).astype(np.float32), glow.astype(np.float32)

    return surface
