# SPDX-License-Identifier: Apache-2.0
"""The clip `plaza`: a town square on a sunny afternoon while a thin cloud passes, seen from a mast."""

import numpy as np

from . import cast
from .actors import Actor, Stander, Walker
from .arrays import Floats
from .camera import Camera
from .clip import Clip, steady
from .compose import Lens
from .foliage import crown
from .gait import Build
from .noise import look_up, tile
from .parts import Rgb
from .scenery import Card, Light, Scenery
from .solids import Box, Crown, Globe, Ground, Post, Solid, Surface
from .surfaces import facade, leaves, plain, planks, slabs, stripes

SUN = (-0.80, -0.34, 0.60)
STONE: Rgb = (0.42, 0.35, 0.26)
BRICK: Rgb = (0.36, 0.20, 0.13)


def clip() -> Clip:
    """The plan of the clip; nothing is rendered yet."""
    return Clip(
        name="plaza",
        camera=Camera(1280, 720, 1330.0, (0.0, 0.0, 2.9), 0.0, -6.5),
        scenery=scenery,
        actors=actors(),
        lens=Lens(exposure=0.88, noise=1.5, tint=(1.03, 1.0, 0.96)),
        times=steady(300, 25),
        levels=_clouds,
        area=(-11.0, 3.0, 11.0, 27.0),
        codec={"crf": "21", "bf": "0", "g": "50"},
        matrix="bt709",
    )


def _clouds(seconds: float) -> tuple[float, ...]:
    """A thin cloud between the fourth and the ninth second: less sun, a little more sky."""
    cloud = 0.5 * float(np.exp(-(((seconds - 7.0) / 1.5) ** 2)))
    return (1.0 + 0.12 * cloud, 1.0 - cloud)


def sky(rays: Floats) -> Floats:
    """Pale blue with soft clouds, brighter towards the horizon."""
    height = np.clip(rays[:, 2] / np.linalg.norm(rays, axis=1), 0, 1)
    low, high = np.array([0.80, 0.90, 1.0], np.float32), np.array([0.20, 0.42, 0.85], np.float32)
    share = np.clip(2.2 * height, 0, 1)[:, None] ** 0.7
    scale = 1 / np.maximum(rays[:, 2], 0.03)
    cloud = look_up(tile(77, size=512), rays[:, 0] * scale / 50, rays[:, 1] * scale / 50)
    puff = np.clip(0.4 * cloud + 0.1, 0, 0.8)[:, None] * np.clip(height * 8, 0, 1)[:, None]
    blue = low * (1 - share) + high * share
    return np.asarray(blue * (1 - puff) + 1.1 * puff, np.float32)


def scenery() -> Scenery:
    """Two blocks with a street between them, a tower at its end, trees, benches, a lamp post and a cafe."""
    iron, zinc = plain((0.05, 0.055, 0.06), 0.03), plain((0.15, 0.155, 0.16), 0.03)
    granite = plain((0.30, 0.29, 0.27), 0.08, 0.3)
    paving = slabs(
        (0.37, 0.335, 0.29), (0.8, 0.4), spread=0.07, joint_tone=0.62, band=(4.0, (0.20, 0.18, 0.165)), seed=1
    )
    roof = plain((0.20, 0.085, 0.05), 0.1)
    solids: list[Solid] = [
        Ground(paving),
        Box((-22.0, 25.0, 0.0), (-3.4, 48.0, 8.6), facade(STONE, 3.3, 3)),
        Box((3.6, 26.5, 0.0), (24.0, 50.0, 8.0), facade(BRICK, 3.3, 5)),
        Box((-22.3, 24.7, 8.6), (-3.1, 48.3, 8.95), plain((0.36, 0.31, 0.24))),
        Box((3.3, 26.2, 8.0), (24.3, 50.3, 8.3), plain((0.36, 0.31, 0.24))),
        Box((-14.0, 55.0, 0.0), (-4.4, 75.0, 7.0), facade((0.46, 0.40, 0.32), 3.0, 7)),
        Box((4.6, 56.0, 0.0), (14.0, 75.0, 7.6), facade((0.44, 0.36, 0.27), 3.0, 8)),
        Box((-1.2, 96.0, 0.0), (2.6, 100.0, 10.5), plain((0.44, 0.39, 0.32))),
        Post(0.7, 98.0, 2.2, 10.5, 14.5, roof, 0.03),
        Box((-9.0, 99.0, 0.0), (10.0, 104.0, 5.6), plain((0.42, 0.35, 0.28))),
        # The cafe: an awning on the right block, two umbrellas.
        Box((5.0, 25.2, 2.75), (11.6, 26.5, 2.85), stripes((0.62, 0.58, 0.50), (0.35, 0.05, 0.045), 0.55)),
        Box((5.0, 25.18, 2.42), (11.6, 25.2, 2.80), stripes((0.62, 0.58, 0.50), (0.35, 0.05, 0.045), 0.55)),
    ]
    for x, y in ((7.2, 22.6), (10.4, 23.2)):
        solids += [Post(x, y, 1.45, 2.05, 2.75, plain((0.60, 0.56, 0.47), 0.03), 0.03), Post(x, y, 0.03, 0, 2.1, iron)]
        for side in (-0.8, 0.75):
            solids += [Post(x + side, y, 0.3, 0.70, 0.74, granite), Post(x + side, y, 0.03, 0.0, 0.7, iron)]
    for x, y in ((-4.3, 13.8), (5.3, 14.4)):
        solids += bench(x, y, planks((0.22, 0.105, 0.05)), iron)
    cards, crowns = [], []
    for x, y, wide, seed in ((-9.3, 17.5, 4.6, 1), (8.6, 18.0, 4.2, 2), (-6.1, 22.5, 5.2, 3)):
        solids += [
            Box((x - 0.85, y - 0.85, 0.0), (x + 0.85, y + 0.85, 0.5), granite),
            Globe((x, y, 0.5), (0.74, 0.74, 0.26), leaves((0.06, 0.11, 0.03))),
            Post(x, y, 0.14, 0.5, 3.6, plain((0.11, 0.075, 0.05), 0.3, 0.1), 0.7),
        ]
        crowns.append(Crown((x, y, 4.4), (wide / 2, wide / 2, 2.0), seed))
        picture = crown(seed, (0.014, 0.028, 0.010), (0.26, 0.34, 0.07), (-0.7, 0.6))
        cards.append(Card(x, y, 2.4, wide, 4.2, picture))
    crowns.append(Crown((-9.5, 4.0, 6.5), (3.4, 3.0, 2.2), 4, 0.6))
    solids += [
        Post(3.1, 11.3, 0.055, 0.0, 4.6, zinc, 0.75),
        Post(3.1, 11.3, 0.12, 0.0, 0.45, zinc, 0.6),
        Globe((3.1, 11.3, 4.8), (0.22, 0.22, 0.26), plain((0.8, 0.8, 0.76), 0.0)),
        Box((-5.6, 7.6, 0.0), (-3.2, 8.3, 0.55), granite),
        Globe((-4.4, 7.95, 0.5), (1.12, 0.32, 0.40), leaves((0.065, 0.115, 0.035), 2)),
    ]
    return Scenery(
        solids=tuple(solids),
        lights=(Light(SUN, (2.75, 2.3, 1.7), width=0.012),),
        sky=sky,
        above=(0.40, 0.52, 0.74),
        below=(0.27, 0.23, 0.19),
        crowns=tuple(crowns),
        cards=tuple(cards),
        haze=((0.74, 0.82, 0.92), 0.006),
    )


def bench(x: float, y: float, wood: Surface, iron: Surface) -> list[Solid]:
    """A park bench that faces the camera: seat, back and two iron sides."""
    sides = (x - 0.75, x + 0.75)
    return [
        Box((x - 0.9, y - 0.25, 0.40), (x + 0.9, y + 0.2, 0.46), wood),
        Box((x - 0.9, y + 0.2, 0.52), (x + 0.9, y + 0.25, 0.88), wood),
        *(Box((side - 0.03, y - 0.22, 0.0), (side + 0.03, y + 0.22, 0.42), iron) for side in sides),
    ]


def actors() -> tuple[Actor, ...]:
    """Nine people; the two in the street are too small to count."""
    return (
        Walker(
            Build(1.80, 1.02, 1.05),
            cast.NAVY,
            ((-1.2, 24.0), (-0.4, 13.0), (0.2, 9.2), (1.6, 8.4), (3.4, 9.2), (8.5, 13.6)),
            start=-9.5,
            speed=1.25,
        ),
        Walker(
            Build(1.68, 0.95, 0.95),
            cast.CAMEL,
            ((8.2, 14.5), (4.4, 12.8), (1.2, 10.6), (-0.5, 9.4), (-0.8, 13.0), (-0.9, 24.0)),
            start=-0.4,
            speed=1.15,
            posture="bag",
        ),
        Walker(Build(1.78), cast.PLAID, ((5.4, 8.0), (2.2, 9.4), (0.8, 12.0), (0.4, 26.0)), start=-2.7, speed=1.25),
        Walker(
            Build(1.84, 1.04, 1.06),
            cast.SUIT,
            ((0.6, 30.0), (0.9, 15.0), (1.2, 10.8), (2.2, 9.2), (4.2, 9.6), (8.0, 12.5)),
            start=-5.5,
            posture="bag",
        ),
        Stander(Build(1.68, 1.0, 1.0), cast.CRIMSON, (-3.25, 10.9), 130.0, "gesture"),
        Stander(Build(1.79, 1.06, 1.1), cast.FOREST, (-1.9, 11.7), 215.0, "pockets"),
        Stander(Build(1.74, 1.0, 1.12), cast.SILVER, (-4.7, 11.5), 165.0, "phone"),
        Walker(Build(1.72), cast.OLIVE, ((-2.2, 22.0), (-1.6, 34.0), (-1.0, 52.0)), start=-1.0),
        Walker(Build(1.70), cast.TEAL, ((2.0, 46.0), (1.8, 34.0), (2.6, 22.0), (9.0, 21.4)), start=-6.0),
    )
