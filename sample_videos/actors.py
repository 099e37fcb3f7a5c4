# SPDX-License-Identifier: Apache-2.0
"""Who is in a scene: walkers on smooth paths and people who stand about."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .arrays import Floats
from .gait import Build, standing, stride_length, walking
from .parts import Look, Part
from .wardrobe import dress


@dataclass(frozen=True, slots=True)
class Walker:
    """Walks along waypoints (x, y) in metres at `speed` (m/s), at the first of them at `start` seconds."""

    build: Build
    look: Look
    path: tuple[tuple[float, float], ...]
    start: float = 0.0
    speed: float = 1.3
    posture: str = "swing"

    def parts(self, seconds: float) -> list[Part]:
        """The solids of this person at a moment; none before the first and after the last waypoint."""
        line = _smooth(self.path)
        gone = (seconds - self.start) * self.speed
        if not 0 <= gone <= line[-1, 2]:
            return []
        x, y = _along(line, gone)
        behind, ahead = _along(line, gone - 0.25), _along(line, gone + 0.25)
        heading = float(np.arctan2(ahead[0] - behind[0], ahead[1] - behind[1]))
        phase = gone / stride_length(self.build, self.speed) + 0.37 * self.look.seed
        pose = walking(self.build, phase, self.speed, self.posture)
        return dress(pose, self.build, self.look, np.array([x, y, 0.0], np.float32), heading)


@dataclass(frozen=True, slots=True)
class Stander:
    """Stands at a place (x, y), facing `heading_deg` clockwise from +y, between two moments."""

    build: Build
    look: Look
    place: tuple[float, float]
    heading_deg: float
    posture: str = "relaxed"
    turn_deg: float = 12.0

    def parts(self, seconds: float) -> list[Part]:
        """The solids of this person at a moment."""
        turn = self.turn_deg * np.sin(0.45 * seconds + self.look.seed)
        pose = standing(self.build, seconds, float(self.look.seed), self.posture)
        place = np.array([*self.place, 0.0], np.float32)
        return dress(pose, self.build, self.look, place, float(np.radians(self.heading_deg + turn)))


Actor = Walker | Stander


@lru_cache(maxsize=64)
def _smooth(path: tuple[tuple[float, float], ...]) -> Floats:
    """Waypoints to a dense smooth line: rows (x, y, metres from the start). Corners cut by Chaikin's rule."""
    line = np.asarray(path, np.float64)
    for _ in range(4):
        first, last = line[:1], line[-1:]
        cut = np.stack([0.75 * line[:-1] + 0.25 * line[1:], 0.25 * line[:-1] + 0.75 * line[1:]], axis=1)
        line = np.concatenate([first, cut.reshape(-1, 2), last])
    steps = np.hypot(*np.diff(line, axis=0).T)
    return np.column_stack([line, np.concatenate([[0.0], np.cumsum(steps)])]).astype(np.float32)


def _along(line: Floats, metres: float) -> tuple[float, float]:
    """The point at a distance along the line; beyond its ends the last piece goes on straight."""
    total = float(line[-1, 2])
    inside = min(max(metres, 0.0), total)
    x = float(np.interp(inside, line[:, 2], line[:, 0]))
    y = float(np.interp(inside, line[:, 2], line[:, 1]))
    if metres == inside:
        return x, y
    first, second = (line[0], line[1]) if metres < 0 else (line[-2], line[-1])
    way = (second - first)[:2] / max(float(second[2] - first[2]), 1e-6)
    return x + float(way[0]) * (metres - inside), y + float(way[1]) * (metres - inside)
