# SPDX-License-Identifier: Apache-2.0
"""The clip `gate`: people pass a park gate at dusk, on wet paving, while the lanterns are switched on."""

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
from .solids import Box, Globe, Ground, Post, Solid
from .surfaces import leaves, lit_house, plain, slabs

DUSK = (0.55, 0.75, 0.42)
BRICK: Rgb = (0.20, 0.085, 0.055)
PILLARS = (-1.75, 1.75)
GATE_Y = 9.8


def clip() -> Clip:
    """The plan of the clip; nothing is rendered yet."""
    return Clip(
        name="gate",
        camera=Camera(960, 540, 1000.0, (-0.5, 0.0, 2.5), 2.5, -6.5),
        scenery=scenery,
        actors=actors(),
        lens=Lens(exposure=1.35, noise=1.8, vignette=0.3, bloom=0.12, tint=(1.0, 1.0, 1.04)),
        times=steady(240, 20),
        levels=_levels,
        area=(-8.0, 2.0, 8.0, 20.0),
        codec={"crf": "22", "bf": "3", "g": "40"},
        matrix="smpte170m",
    )


def _levels(seconds: float) -> tuple[float, ...]:
    """The lanterns flicker on at three and a half seconds; the camera then shortens its exposure a little."""
    flicker = 0.35 if 3.5 <= seconds < 3.65 else 0.0
    lamps = flicker if seconds < 3.9 else float(np.clip((seconds - 3.9) / 0.5, 0, 1)) * 0.65 + 0.35
    sky = 1.0 - 0.18 * lamps
    return (sky, sky, lamps, lamps, 0.8 + 0.2 * lamps)


def sky(rays: Floats) -> Floats:
    """After sunset: peach over the horizon, slate blue above, streaks of cloud."""
    height = np.clip(rays[:, 2] / np.linalg.norm(rays, axis=1), 0, 1)
    stops = np.array([0.0, 0.08, 0.2, 0.5])
    colours = np.array([[1.0, 0.56, 0.34], [0.78, 0.50, 0.42], [0.34, 0.38, 0.52], [0.14, 0.19, 0.33]])
    light = np.stack([np.interp(height, stops, colours[:, band]) for band in range(3)], axis=1)
    streak = look_up(tile(78, size=512, octaves=4), rays[:, 0] * 0.12, rays[:, 2] * 1.6)
    return np.asarray(light * (1 + 0.10 * streak)[:, None], np.float32)


def scenery() -> Scenery:
    """Brick walls and pillars with lanterns, a path to a house with lit windows, trees against the sky."""
    brick = slabs(BRICK, (0.24, 0.08), joint=0.008, spread=0.16, joint_tone=1.35, seed=6)
    cap, iron = plain((0.26, 0.24, 0.22), 0.08, 0.3), plain((0.02, 0.022, 0.025), 0.02)
    paving = slabs((0.155, 0.15, 0.15), (0.42, 0.28), joint=0.014, spread=0.14, joint_tone=0.5, seed=7)
    solids: list[Solid] = [Ground(paving, polish=0.32)]
    for low, high in ((-16.0, -2.1), (2.1, 16.0)):
        solids += [
            Box((low, GATE_Y + 0.05, 0.0), (high, GATE_Y + 0.35, 1.95), brick),
            Box((low, GATE_Y - 0.02, 1.95), (high, GATE_Y + 0.42, 2.06), cap),
            Box((low, GATE_Y + 1.0, 0.0), (high, GATE_Y + 2.2, 2.5), leaves((0.03, 0.055, 0.022), 4)),
        ]
    for x in PILLARS:
        solids += [
            Box((x - 0.36, GATE_Y - 0.16, 0.0), (x + 0.36, GATE_Y + 0.56, 2.45), brick),
            Box((x - 0.44, GATE_Y - 0.24, 2.45), (x + 0.44, GATE_Y + 0.64, 2.60), cap),
            Box((x - 0.40, GATE_Y - 0.20, 0.0), (x + 0.40, GATE_Y + 0.60, 0.22), cap),
            Post(x, GATE_Y + 0.2, 0.05, 2.6, 2.72, iron),
            Globe((x, GATE_Y + 0.2, 2.90), (0.17, 0.17, 0.19), plain((0.42, 0.38, 0.30), 0.0), shade=False),
        ]
    solids += [
        Box((-9.0, 34.0, 0.0), (5.0, 42.0, 5.4), lit_house((0.20, 0.17, 0.15), 2.4)),
        Box((-9.25, 33.75, 5.4), (5.25, 42.0, 5.75), plain((0.10, 0.085, 0.08))),
        Box((-7.4, 36.0, 5.75), (3.4, 40.0, 6.7), plain((0.05, 0.042, 0.045))),
    ]
    cards = []
    for x, y, size, seed in (
        (-8.5, 15.0, 5.6, 31),
        (7.6, 14.5, 5.2, 32),
        (11.5, 22.0, 7.0, 33),
        (-15.0, 24.0, 8.0, 34),
        (9.0, 44.0, 11.0, 35),
        (-16.0, 46.0, 12.0, 36),
    ):
        solids.append(Post(x, y, 0.2, 0.0, 2.0 + 0.3 * size, plain((0.05, 0.04, 0.035), 0.2, 0.1), 0.7))
        picture = crown(seed, (0.008, 0.012, 0.008), (0.075, 0.085, 0.040), (0.5, 0.4), leaves=6000)
        cards.append(Card(x, y, 2.0, size, size * 0.95, picture))
    return Scenery(
        solids=tuple(solids),
        lights=(
            Light(DUSK, (0.62, 0.46, 0.40), width=0.25, tries=6, blur=3.0),
            *(
                Light((x, GATE_Y - 0.35, 2.95), (3.6, 2.5, 1.3), point=True, width=0.08, tries=4, blur=1.6)
                for x in PILLARS
            ),
            Light((-3.6, 3.2, 4.8), (7.5, 5.4, 3.2), point=True, width=0.12, tries=3),
        ),
        sky=sky,
        above=(0.20, 0.235, 0.32),
        below=(0.10, 0.095, 0.10),
        cards=tuple(cards),
        haze=((0.42, 0.36, 0.38), 0.006),
        indoors=3.0,
    )


def actors() -> tuple[Actor, ...]:
    """Six people, in and out through the gate."""
    return (
        Walker(
            Build(1.79, 1.02, 1.04),
            cast.RAIN,
            ((0.4, 16.0), (0.2, 11.0), (-0.6, 8.6), (-3.4, 6.6), (-5.4, 5.2)),
            start=-3.2,
            speed=1.25,
        ),
        Walker(
            Build(1.67, 0.96, 0.96),
            cast.CRIMSON,
            ((4.6, 6.2), (2.6, 7.6), (0.6, 9.2), (-0.2, 11.6), (-0.4, 24.0)),
            start=-3.5,
            speed=1.15,
        ),
        Stander(Build(1.82, 1.05, 1.08), cast.SILVER, (3.1, 9.1), 215.0, "phone"),
        Walker(
            Build(1.75),
            cast.MUSTARD,
            ((-0.4, 22.0), (0.5, 12.0), (1.2, 9.0), (0.8, 7.2)),
            start=0.4,
            speed=1.2,
            posture="bag",
        ),
        Walker(
            Build(1.83, 1.04, 1.1),
            cast.FOREST,
            ((-4.8, 5.8), (-2.2, 7.4), (0.2, 9.2), (0.3, 11.6), (0.6, 24.0)),
            start=4.2,
            speed=1.2,
        ),
        Stander(Build(1.68, 0.98, 0.98), cast.CAMEL, (-2.7, 9.0), 160.0, "bag"),
    )
