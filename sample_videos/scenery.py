# SPDX-License-Identifier: Apache-2.0
"""What a scene consists of besides people: solids, lights, sky, flat pictures of trees."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .arrays import Floats
from .parts import Rgb
from .solids import FAR, Crown, Ground, Solid


@dataclass(frozen=True, slots=True)
class Light:
    """A far sun (`point` False: `at` is the direction towards it) or a lamp (`at` is its place, metres)."""

    at: tuple[float, float, float]
    colour: Rgb
    point: bool = False
    width: float = 0.02  # half angle (sun, radians) or radius (lamp, metres): how soft shadows are
    tries: int = 2  # shadow rays per sample
    blur: float = 1.1  # softness of people's shadows, pixels of a picture 640 wide

    def towards(self, points: Floats, shift: Floats | None = None) -> tuple[Floats, Floats, Floats]:
        """Unit directions to the light (n, 3), distances (n,) and strength at each point (n,)."""
        at = np.asarray(self.at, np.float32) + (0 if shift is None else shift * self.width)
        if not self.point:
            unit = np.broadcast_to(at / np.linalg.norm(at), points.shape).astype(np.float32)
            count = len(points)
            return unit, np.full(count, FAR, np.float32), np.ones(count, np.float32)
        way = at - points
        distance = np.linalg.norm(way, axis=1).astype(np.float32)
        return (way / distance[:, None]).astype(np.float32), distance, 1 / np.maximum(distance, 0.3) ** 2

    def on_ground(self, points: Floats) -> Floats:
        """Where the shadow of each point falls on z = 0; (n, 2). Points above a lamp are sent far away."""
        at = np.asarray(self.at, np.float32)
        if self.point:
            rays = points - at
            down = np.minimum(rays[:, 2], -0.02)
            return np.asarray(at[:2] + rays[:, :2] * (-at[2] / down)[:, None], np.float32)
        return np.asarray(points[:, :2] - at[:2] * (points[:, 2:3] / at[2]), np.float32)


@dataclass(frozen=True, slots=True)
class Card:
    """A flat picture that stands in the scene and faces the camera: a tree, a hedge; RGBA, linear, straight alpha."""

    x: float
    y: float
    bottom: float
    width: float
    height: float
    picture: Floats


@dataclass(frozen=True, slots=True)
class Scenery:
    """Everything static of one scene."""

    solids: tuple[Solid, ...]
    lights: tuple[Light, ...]
    sky: Callable[[Floats], Floats]  # directions (n, 3) -> light (n, 3)
    above: Rgb  # light from overhead and from below that reaches every surface
    below: Rgb
    crowns: tuple[Crown, ...] = ()
    cards: tuple[Card, ...] = ()
    haze: tuple[Rgb, float] = ((0.6, 0.65, 0.7), 0.0)  # colour, share per metre
    indoors: float = 0.0  # ambient reach: >0 limits how far a corner looks for what hides the sky (metres)


def visible_light(scenery: Scenery, light: Light, points: Floats, shift: Floats | None = None) -> Floats:
    """Share of a light that reaches each point past the solids and crowns; (n,) in [0, 1]."""
    directions, distance, _ = light.towards(points, shift)
    start = points + 0.004 * directions
    free = np.ones(len(points), np.float32)
    for solid in scenery.solids:
        if isinstance(solid, Ground) or not solid.shade:
            continue
        hit = solid.meet(start, directions)
        free[(hit < FAR) & (hit < distance - 0.05)] = 0
    for crown in scenery.crowns:
        free *= crown.passes(start, directions)
    return free
