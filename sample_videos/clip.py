# SPDX-License-Identifier: Apache-2.0
"""The plan of one clip: camera, scene, people, moments and how it is encoded."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .actors import Actor
from .camera import Camera
from .compose import Lens, Painter, Sighting
from .scenery import Scenery
from .stage import bake

TICKS = 90_000  # pts per second in every clip


@dataclass(frozen=True, slots=True)
class Clip:
    """All that determines a clip. `times`: the pts of every frame, in 1/90000 s from 0."""

    name: str
    camera: Camera
    scenery: Callable[[], Scenery]
    actors: tuple[Actor, ...]
    lens: Lens
    times: tuple[int, ...]
    levels: Callable[[float], tuple[float, ...]]  # seconds -> ambient level, then one per light
    area: tuple[float, float, float, float]  # ground that shadows may fall on: x0, y0, x1, y1
    codec: dict[str, str]  # options of libx264
    matrix: str  # bt709 | smpte170m | unspecified: how colours are coded and tagged

    @property
    def least_height(self) -> float:
        """Pixels below which a person does not count: 80 in a picture 360 high, in proportion otherwise."""
        return 80.0 * self.camera.height / 360

    def painter(self) -> Painter:
        """Bake the scene (seconds) and return what draws its frames."""
        scenery = self.scenery()
        return Painter(self.camera, scenery, bake(scenery, self.camera), self.lens, self.area)

    def frames(self, step: int = 1) -> Iterator[tuple[int, NDArray[np.uint8], list[Sighting]]]:
        """Every `step`-th frame: its number from 0, the picture (h, w, 3) RGB and who is in it."""
        painter = self.painter()
        for number in range(0, len(self.times), step):
            yield number, *self.frame(painter, number)

    def frame(self, painter: Painter, number: int) -> tuple[NDArray[np.uint8], list[Sighting]]:
        """One frame; the same number always gives the same arrays."""
        seconds = self.times[number] / TICKS
        return painter.frame(number, seconds, self.actors, self.levels(seconds))


def steady(count: int, rate: int) -> tuple[int, ...]:
    """Evenly spaced pts."""
    return tuple(index * TICKS // rate for index in range(count))
