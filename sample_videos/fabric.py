# SPDX-License-Identifier: Apache-2.0
"""What a surface shows at a point: folds of cloth, stripes and checks, an open jacket, a face."""

import numpy as np

from .arrays import Floats
from .noise import look_up, tile
from .parts import Cover


def folds(cover: Cover, lon: Floats, along: Floats, radius: Floats) -> tuple[Floats, Floats]:
    """Slopes that folds add to the normal: across and along the axis. `along` and `radius` in metres."""
    if cover.bump <= 0:
        zero = np.zeros_like(lon)
        return zero, zero
    soft = tile(11, octaves=3)
    stretch = (1.4, 3.2) if cover.fold == "across" else (6.0, 0.9)
    offset = cover.seed * 0.137
    around = lon * np.maximum(radius, 0.03)
    # Creases run a little askew, so the two coordinates are sheared into each other.
    u = around * stretch[0] + along * 0.9 + offset
    v = along * stretch[1] + around * 0.8 + offset * 1.7
    delta = 1.5 / 256
    here = look_up(soft, u, v)
    return (
        cover.bump * 0.45 * (look_up(soft, u + delta, v) - here),
        cover.bump * 0.9 * (look_up(soft, u, v + delta) - here),
    )


def albedo(cover: Cover, lon: Floats, t: Floats, along: Floats) -> Floats:
    """Colour of each point, linear light; lon = 0 is the middle of the front, t runs along the part; (n, 3)."""
    base = np.asarray(cover.colour, np.float32)
    lon = (lon + np.pi) % (2 * np.pi) - np.pi
    colour = np.repeat(base[None], lon.size, axis=0)
    grain = look_up(tile(5, octaves=6, first=8, gain=0.8), lon * 0.7 + cover.seed * 0.31, along * 1.9)
    second = np.asarray(cover.second, np.float32)
    if cover.pattern == "stripes":
        colour = _blend(colour, second, _edge(np.abs((along / 0.055) % 1.0 - 0.5), 0.25, 0.05))
    elif cover.pattern == "plaid":
        bars = 0.5 * (np.abs((along / 0.09) % 1.0 - 0.5) < 0.16) + 0.5 * (np.abs((lon / 0.55) % 1.0 - 0.5) < 0.16)
        colour = _blend(colour, second, bars.astype(np.float32))
    elif cover.pattern == "open":
        # A jacket open over a shirt: narrow at the waist, wide at the chest; a tie or a row of buttons inside.
        gap = 0.09 + 0.30 * np.clip((t - 0.35) / 0.5, 0, 1)
        colour = _blend(colour, second, _edge(np.abs(lon), gap, 0.05) * (t > 0.22))
        tie = _edge(np.abs(lon), 0.07 + 0.05 * (1 - t), 0.03) * (t > 0.3)
        colour = _blend(colour, np.asarray(cover.third, np.float32), tie)
        colour = _blend(colour, base * 0.55, 0.8 * _edge(np.abs(np.abs(lon) - gap - 0.05), 0.035, 0.03))
    elif cover.pattern == "zip":
        colour = _blend(colour, base * 0.45, 0.9 * _edge(np.abs(lon), 0.035, 0.03))
        colour = _blend(colour, base * 0.6, 0.7 * _edge(np.abs(t - 0.06), 0.02, 0.015))
        pocket = _edge(np.abs(np.abs(lon) - 0.75), 0.22, 0.05) * _edge(
            np.abs(t - 0.27 - 0.1 * (np.abs(lon) - 0.75)), 0.008, 0.01
        )
        colour = _blend(colour, base * 0.4, pocket)
    elif cover.pattern == "band":
        colour = _blend(colour, second, _edge(np.abs(t - 0.62), 0.09, 0.015))
    elif cover.pattern in ("face", "bald"):
        colour = _face(colour, cover, lon, 1 - 2 * t)
    return np.asarray(colour * np.clip(1 + 0.06 * grain, 0.5, 1.5)[:, None], np.float32)


def _face(colour: Floats, cover: Cover, lon: Floats, v: Floats) -> Floats:
    """Hair behind the ears, eyes, brows, a mouth, perhaps a beard; v runs from -1 (chin) to 1 (crown)."""
    hair = np.asarray(cover.second, np.float32)
    skin = np.asarray(cover.colour, np.float32)
    if cover.pattern == "face":
        colour = _blend(colour, hair, _edge(1.75 - np.abs(lon) + 0.0 * v, 0.0, 0.25) * (v > -0.55))
    beard = _edge(np.abs(lon), 1.25, 0.2) * _edge(v + 0.30 - 0.10 * np.abs(lon), 0.0, 0.10)
    colour = _blend(colour, np.asarray(cover.third, np.float32), 0.85 * beard)
    for sign in (1.0, -1.0):
        socket = np.exp(-(((lon - sign * 0.36) / 0.24) ** 2 + ((v - 0.06) / 0.12) ** 2))
        colour = _blend(colour, skin * 0.45, 0.55 * socket)
        eye = np.exp(-(((lon - sign * 0.36) / 0.13) ** 2 + ((v - 0.05) / 0.05) ** 2))
        colour = _blend(colour, np.array([0.02, 0.015, 0.01], np.float32), 0.8 * eye)
        brow = np.exp(-(((lon - sign * 0.38) / 0.24) ** 2 + ((v - 0.19) / 0.04) ** 2))
        colour = _blend(colour, hair, 0.7 * brow)
    cheeks = np.exp(-(((np.abs(lon) - 0.6) / 0.3) ** 2 + ((v + 0.2) / 0.2) ** 2))
    colour = _blend(colour, skin * np.array([1.15, 0.85, 0.8], np.float32), 0.35 * cheeks)
    mouth = np.exp(-((lon / 0.28) ** 2 + ((v + 0.5) / 0.05) ** 2))
    return _blend(colour, skin * np.array([0.7, 0.3, 0.3], np.float32), 0.7 * mouth)


def _edge(distance: Floats, limit: Floats | float, soft: float) -> Floats:
    """1 where distance < limit, 0 well beyond, a ramp of width `soft` between."""
    return np.clip((limit - distance) / soft + 0.5, 0, 1)


def _blend(colour: Floats, other: Floats, share: Floats) -> Floats:
    return colour + (other - colour) * np.asarray(share, np.float32)[:, None]
