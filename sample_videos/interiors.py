# SPDX-License-Identifier: Apache-2.0
"""Surfaces of the lobby: a panelled wall with lift doors, a painting, the world outside the windows."""

import numpy as np

from .arrays import Floats
from .noise import look_up, tile
from .parts import Rgb
from .solids import Surface
from .surfaces import across, plain, planks, slabs, tinted


def floor(inside_from: float) -> Surface:
    """Large polished tiles indoors, lawn and a path outside (x < `inside_from`)."""
    tiles = slabs((0.40, 0.375, 0.34), (0.9, 0.9), joint=0.010, spread=0.05, bond=0.0, joint_tone=0.55, seed=4)
    lawn = plain((0.13, 0.24, 0.06), 0.12, 0.8, 3)

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        inner, glow = tiles(points, normals)
        outer, _ = lawn(points, normals)
        outside = points[:, 0] < inside_from
        day = np.where(outside[:, None], outer * np.array([1.6, 1.7, 1.6], np.float32), 0)
        return np.where(outside[:, None], 0, inner).astype(np.float32), (glow + day).astype(np.float32)

    return surface


def back_wall(colour: Rgb) -> Surface:
    """Warm plaster above a wooden wainscot, with one broad abstract painting."""
    wood = planks((0.20, 0.115, 0.06), 0.22, upright=True, seed=2)
    plaster = plain(colour, 0.025, 1.0, 5)

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        albedo, glow = plaster(points, normals)
        boards, _ = wood(points, normals)
        u, z = across(points, normals)
        albedo = np.where((z < 1.0)[:, None], boards, albedo)
        albedo = np.where((np.abs(z - 1.02) < 0.03)[:, None], boards * 0.7, albedo)
        x, y = (u - 1.1) / 2.0, (z - 2.35) / 0.75
        wave = look_up(tile(88, octaves=3, first=2), x / 5, y / 7) * 0.35 + y
        bands = [(0.30, 0.12, 0.05), (0.42, 0.27, 0.10), (0.34, 0.33, 0.27), (0.07, 0.14, 0.19), (0.03, 0.05, 0.09)]
        paint = np.asarray(bands, np.float32)[np.clip((wave * 1.7 + 2.3).astype(np.int64), 0, 4)]
        inside = (np.abs(x) < 1) & (np.abs(y) < 1)
        frame = (np.abs(x) < 1.03) & (np.abs(y) < 1.07) & ~inside
        albedo = np.where(inside[:, None], paint, albedo)
        return np.where(frame[:, None], albedo * 0.15, albedo).astype(np.float32), glow

    return surface


def panels(colour: Rgb) -> Surface:
    """Broad veneer panels laid level, with thin shadow gaps."""

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        u, z = across(points, normals)
        grain = look_up(tile(46, octaves=5), u / 5.0, z / 0.5)
        tint = np.floor(u / 1.5) * 0.37 + np.floor(z / 0.9) * 0.61
        gap = np.minimum(np.abs(u / 1.5 - np.round(u / 1.5)) * 1.5, np.abs(z / 0.9 - np.round(z / 0.9)) * 0.9)
        tone = (1 + 0.07 * grain + 0.06 * np.sin(9 * tint)) * (1 - 0.45 * np.clip(1.2 - gap / 0.010, 0, 1))
        return tinted(colour, tone), np.zeros_like(points)

    return surface


def ceiling(lamps: tuple[tuple[float, float], ...]) -> Surface:
    """White ceiling with square light panels centred at `lamps`."""

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        lit = np.zeros(len(points), bool)
        for x, y in lamps:
            lit |= (np.abs(points[:, 0] - x) < 0.6) & (np.abs(points[:, 1] - y) < 0.6)
        glow = np.where((lit & (normals[:, 2] < -0.5))[:, None], np.array([1.5, 1.42, 1.25], np.float32), 0)
        return tinted((0.62, 0.60, 0.56), np.ones(len(points), np.float32)), glow.astype(np.float32)

    return surface
