# SPDX-License-Identifier: Apache-2.0
"""The clip `lobby`: an entrance hall lit by tall windows, taken by a camera whose frame rate varies."""

import numpy as np

from . import cast
from .actors import Actor, Stander, Walker
from .arrays import Floats
from .camera import Camera
from .clip import TICKS, Clip
from .compose import Lens
from .foliage import crown
from .gait import Build
from .interiors import back_wall, ceiling, floor, panels
from .scenery import Card, Light, Scenery
from .solids import Box, Globe, Ground, Post, Solid
from .surfaces import glowing, leaves, plain, planks

SUN = (-0.82, 0.10, 0.62)
LEFT, RIGHT, BACK, TOP = -5.2, 5.6, 14.5, 4.2
LAMPS = ((-2.0, 8.0), (1.8, 8.0), (-2.0, 11.5), (1.8, 11.5))


def clip() -> Clip:
    """The plan of the clip; nothing is rendered yet."""
    return Clip(
        name="lobby",
        camera=Camera(640, 360, 590.0, (0.3, 0.0, 2.6), 0.0, -8.0),
        scenery=scenery,
        actors=actors(),
        lens=Lens(exposure=1.3, noise=1.5, vignette=0.25, bloom=0.08, tint=(1.02, 1.0, 0.97), softness=0.45),
        times=uneven(12.0),
        levels=_levels,
        area=(-6.0, 2.0, 6.0, 15.0),
        codec={"crf": "22", "bf": "2", "g": "30"},
        matrix="unspecified",
    )


def uneven(seconds: float) -> tuple[int, ...]:
    """Pts of a camera that lengthens its exposure when the light goes: 30 fps, 15 fps in the dark part, with jitter
    of some milliseconds and one hole of 0.4 s where the network dropped frames."""
    rng = np.random.default_rng(20)
    times, now = [], 0.0
    while now < seconds:
        times.append(round(now * TICKS))
        wait = 1 / 15 if 4.6 < now < 8.4 else 1 / 30
        now += wait + float(np.clip(rng.normal(0, 0.003), -0.008, 0.008))
        if 9.6 < now < 9.66:
            now += 0.4
    return tuple(times)


def _levels(seconds: float) -> tuple[float, ...]:
    """Daylight fades behind a cloud from the fourth to the ninth second; the lamps stay on."""
    dim = float(np.clip((seconds - 4.2) / 0.8, 0, 1) * np.clip((9.0 - seconds) / 0.8, 0, 1))
    dim = dim * dim * (3 - 2 * dim)
    return (1 - 0.25 * dim, 1 - 0.85 * dim, 1 - 0.55 * dim, 1.0)


def sky(rays: Floats) -> Floats:
    """Bright haze outside."""
    height = np.clip(rays[:, 2:3] / np.linalg.norm(rays, axis=1, keepdims=True), 0, 1)
    low, high = np.array([1.15, 1.2, 1.2], np.float32), np.array([0.9, 1.1, 1.3], np.float32)
    return np.asarray(low * (1 - height) + high * height, np.float32)


def scenery() -> Scenery:
    """Hall with a glazed left wall, a desk before the back wall, a pillar, plants and a sofa."""
    frame, white = plain((0.05, 0.05, 0.055), 0.02), plain((0.55, 0.53, 0.50), 0.02)
    solids: list[Solid] = [
        Ground(floor(LEFT), polish=0.5),
        Box((LEFT - 1, BACK, 0.0), (RIGHT + 1, BACK + 0.3, TOP + 0.3), back_wall((0.52, 0.46, 0.37))),
        Box((RIGHT, -4.0, 0.0), (RIGHT + 0.3, BACK, TOP + 0.3), panels((0.30, 0.185, 0.10))),
        Box((LEFT - 0.6, -4.0, TOP), (RIGHT, BACK, TOP + 0.3), ceiling(LAMPS)),
        Box((LEFT - 0.2, -4.0, 0.0), (LEFT, BACK, 0.18), frame),
        Box((LEFT - 0.2, -4.0, 3.5), (LEFT, BACK, TOP), white),
        Box((LEFT - 0.12, -4.0, 2.62), (LEFT - 0.05, BACK, 2.70), frame),
        # Reception.
        Box((0.2, 12.2, 0.0), (3.9, 12.9, 1.08), panels((0.24, 0.13, 0.065))),
        Box((0.1, 12.1, 1.08), (4.0, 13.0, 1.14), plain((0.50, 0.48, 0.44), 0.06, 0.3), polish=0.3),
        # Pillar and sofa.
        Post(-2.55, 10.2, 0.27, 0.0, TOP, white),
        Box((-4.9, 8.2, 0.12), (-4.0, 10.6, 0.44), plain((0.10, 0.13, 0.15), 0.1, 0.3)),
        Box((-5.05, 8.2, 0.12), (-4.85, 10.6, 0.80), plain((0.10, 0.13, 0.15), 0.1, 0.3)),
        Box((4.6, 9.0, 0.30), (5.3, 10.8, 0.38), planks((0.24, 0.13, 0.06))),
        Box((4.7, 9.1, 0.0), (5.2, 9.2, 0.30), frame),
        Box((4.7, 10.6, 0.0), (5.2, 10.7, 0.30), frame),
    ]
    for y in np.arange(-3.5, BACK, 2.25):
        solids.append(Box((LEFT - 0.14, float(y) - 0.05, 0.0), (LEFT - 0.02, float(y) + 0.05, 3.6), frame))
    lamp = glowing((0.5, 0.5, 0.5), (1.9, 1.5, 0.95))
    solids.append(Box((0.7, 12.45, 2.62), (3.4, 12.60, 2.70), lamp, shade=False))
    solids += [Post(x, 12.52, 0.008, 2.70, TOP, frame, shade=False) for x in (0.9, 3.2)]
    for x, y, tall in ((-9.5, 5.0, 1.3), (-10.5, 9.0, 1.5), (-9.0, 13.0, 1.4), (-11.0, 17.0, 1.6)):
        solids.append(Globe((x, y, 0.4), (1.6, 2.0, tall), bright(x), shade=False))
    cards = []
    for x, y, size, seed in ((4.75, 12.0, 1.25, 21), (-4.55, 12.6, 1.35, 22)):
        solids.append(Post(x, y, 0.20, 0.0, 0.5, white, 1.2))
        cards.append(
            Card(x, y, 0.32, size, size * 1.15, crown(seed, (0.012, 0.03, 0.012), (0.10, 0.17, 0.05), leaves=1500))
        )
    return Scenery(
        solids=tuple(solids),
        lights=(
            Light(SUN, (3.6, 3.1, 2.4), width=0.012, tries=10),
            Light((-0.90, -0.12, 0.32), (0.50, 0.56, 0.66), width=0.30, tries=8, blur=3.5),
            Light((0.3, 8.5, 4.1), (2.6, 2.3, 1.8), point=True, width=0.7, tries=8, blur=2.5),
        ),
        sky=sky,
        above=(0.30, 0.29, 0.28),
        below=(0.22, 0.20, 0.175),
        cards=tuple(cards),
        indoors=2.2,
    )


def bright(seed: float):  # type: ignore[no-untyped-def]
    """A shrub in full daylight, seen from indoors."""
    green = leaves((0.10, 0.2, 0.05), int(-seed))

    def surface(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
        albedo, glow = green(points, normals)
        day = albedo * (1.2 + 3.0 * np.clip(normals @ np.array([-0.6, -0.3, 0.7], np.float32), 0, 1))[:, None]
        return np.zeros_like(albedo), (glow + day).astype(np.float32)

    return surface


def actors() -> tuple[Actor, ...]:
    """Six people; the receptionist is half hidden by the desk and does not count."""
    return (
        Stander(Build(1.70, 0.98, 0.95), cast.OFFICE, (2.4, 13.5), 180.0, "relaxed"),
        Stander(Build(1.76, 1.02, 1.05), cast.SUIT, (1.1, 9.9), 200.0, "phone"),
        Stander(Build(1.69, 0.98, 0.98), cast.TEAL, (3.1, 8.3), 225.0, "bag"),
        Walker(
            Build(1.80), cast.OLIVE, ((-4.2, 13.6), (-1.2, 11.0), (-0.9, 8.6), (-3.6, 6.2), (-6.0, 4.6)), start=-1.5
        ),
        Walker(
            Build(1.66, 0.95, 0.95),
            cast.MUSTARD,
            ((3.9, 11.7), (2.4, 9.4), (0.6, 7.0), (-0.6, 7.4), (-1.2, 10.4), (-4.2, 13.6)),
            start=-2.3,
            speed=1.15,
            posture="bag",
        ),
        Walker(
            Build(1.82, 1.05, 1.1), cast.NAVY, ((-4.8, 12.6), (-1.4, 8.8), (1.2, 6.6), (5.0, 4.6)), start=4.4, speed=1.2
        ),
    )
