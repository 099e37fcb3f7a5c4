# SPDX-License-Identifier: Apache-2.0
"""Pictures of trees: a crown of many small leaves, lit from one side, with transparency."""

import cv2
import numpy as np

from .arrays import Floats
from .parts import Rgb


def crown(
    seed: int,
    dark: Rgb,
    bright: Rgb,
    light_from: tuple[float, float] = (-0.5, 0.8),
    clumps: int = 26,
    leaves: int = 5200,
    size: int = 640,
) -> Floats:
    """A round tree crown (size, size, 4): linear RGB and straight alpha. `light_from`: (right, up) of the sun."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, clumps), 0.68 * np.sqrt(rng.random(clumps))
    centres = np.stack([radius * np.cos(angle), 0.9 * radius * np.sin(angle), rng.uniform(-0.6, 0.6, clumps)], axis=1)
    spread = rng.uniform(0.2, 0.36, clumps)
    which = rng.integers(0, clumps, leaves)
    offset = rng.standard_normal((leaves, 3))
    offset *= (0.55 + 0.45 * rng.random((leaves, 1))) / np.linalg.norm(offset, axis=1, keepdims=True)
    places = centres[which] + offset * spread[which][:, None]
    sun = np.array([*light_from, 0.45])
    sun /= np.linalg.norm(sun)
    own = np.clip(0.5 + 0.5 * offset @ sun, 0, 1)
    whole = np.clip(0.5 + 0.55 * places @ sun, 0, 1)
    share = np.clip(own * 0.55 + whole * 0.55 - 0.12 + 0.12 * rng.standard_normal(leaves), 0, 1) ** 1.3
    picture = np.zeros((size, size, 4), np.float32)
    first, last = np.asarray(dark), np.asarray(bright)
    for leaf in np.argsort(places[:, 2]):
        x = (places[leaf, 0] * 0.5 + 0.5) * size
        y = (0.5 - places[leaf, 1] * 0.5) * size
        colour = first + (last - first) * share[leaf]
        length = rng.uniform(0.008, 0.017) * size
        cv2.ellipse(
            picture,
            (round(x * 16), round(y * 16)),
            (round(length * 16), round(length * 9)),
            float(rng.uniform(0, 180)),
            0,
            360,
            (*(float(value) for value in colour), 1.0),
            -1,
            cv2.LINE_8,
            4,
        )
    return picture
