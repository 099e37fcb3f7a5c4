# SPDX-License-Identifier: Apache-2.0
"""Repeatable randomness for surfaces: tileable noise and cheap look-ups into it."""

from functools import lru_cache

import cv2
import numpy as np

from .arrays import Floats


@lru_cache(maxsize=64)
def tile(seed: int, size: int = 256, octaves: int = 5, first: int = 4, gain: float = 0.5) -> Floats:
    """A tileable fractal noise picture (size, size), zero mean, standard deviation 1, float32."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size, size), np.float32)
    weight = 1.0
    for octave in range(octaves):
        cells = first << octave
        if cells > size:
            break
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        padded = np.pad(grid, 2, mode="wrap")
        step = size // cells
        big = cv2.resize(padded, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += weight * big[2 * step : 2 * step + size, 2 * step : 2 * step + size]
        weight *= gain
    return np.asarray((total - total.mean()) / total.std(), np.float32)


def look_up(picture: Floats, u: Floats, v: Floats) -> Floats:
    """The picture, repeated without end, at u and v (in repeats); nearest value. Same shape as u."""
    size = picture.shape[0]
    columns = np.floor(u * size).astype(np.int64) % size
    rows = np.floor(v * size).astype(np.int64) % size
    return np.asarray(picture[rows, columns], np.float32)


def cells(u: Floats, v: Floats, seed: int) -> Floats:
    """One value in [0, 1) per unit cell of the plane: for the tint of single stones, tiles and bricks."""
    rng = np.random.default_rng(seed)
    table = rng.random((64, 64)).astype(np.float32)
    return table[np.floor(v).astype(np.int64) % 64, np.floor(u).astype(np.int64) % 64]
