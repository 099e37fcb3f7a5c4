# SPDX-License-Identifier: Apache-2.0
"""How fast a camera's clock is against this machine's."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
Point = tuple[int, int]
"""When a frame was read, and that less its pts, nanoseconds."""

SLOTS: Final = 120
"""At most; then two become one."""
FIRST_NS: Final = 1_000_000_000
"""How wide they are at first."""
LONG_ENOUGH_S: Final = 10.0
"""A drift is told of so many seconds at least."""


class Drift:
    """The slope of a line below which no frame arrives.

    A frame may be read late, by anything and for seconds on end where the machine is busy; it cannot be read early. So
    nothing is averaged: of each slot of time only the promptest frame counts, and of the lines below all of these that
    which lies nearest to them. It is the edge of their lower convex hull that spans their mean time. Memory is bounded,
    however long a connection lasts.
    """

    __slots__ = ("_ends", "_promptest", "_width_ns")

    def __init__(self) -> None:
        self._width_ns = FIRST_NS
        self._promptest: dict[int, Point] = {}  # by slot
        self._ends: tuple[int, int] | None = None  # first and last time of reading

    def add(self, times_ns: Int64Array) -> None:
        """Add frames of the same epoch: (n, 2) when each was read and its pts, nanoseconds."""
        read_ns = times_ns[:, 0]
        transits_ns = read_ns - times_ns[:, 1]
        first, last = int(read_ns.min()), int(read_ns.max())
        self._ends = (first, last) if self._ends is None else (min(first, self._ends[0]), max(last, self._ends[1]))
        slots = read_ns // self._width_ns
        for slot in sorted(set(slots.tolist())):
            own = np.flatnonzero(slots == slot)
            least = own[transits_ns[own].argmin()]
            self._take(slot, (int(read_ns[least]), int(transits_ns[least])))
        while len(self._promptest) > SLOTS:
            before, self._promptest = self._promptest, {}
            self._width_ns *= 2
            for slot, point in before.items():
                self._take(slot // 2, point)

    def _take(self, slot: int, point: Point) -> None:
        known = self._promptest.get(slot)
        if known is None or point[1] < known[1]:
            self._promptest[slot] = point

    @property
    def ppm(self) -> tuple[float, float] | None:
        """Parts per million by which pts are fast, and how far off that may be; None where it is too early.

        How far: as much as the line turns when one end of it is lifted by twice what the median of the promptest frames
        lies above it.
        """
        if self._ends is None or self._ends[1] - self._ends[0] < LONG_ENOUGH_S * 1e9 or len(self._promptest) < 3:
            return None
        points = sorted(self._promptest.values())
        mean_ns = sum(at_ns for at_ns, _ in points) / len(points)
        begin, end = next(edge for edge in pairwise(_lower_hull(points)) if edge[1][0] >= mean_ns)
        slope = (end[1] - begin[1]) / (end[0] - begin[0])
        above_ns = [transit_ns - begin[1] - slope * (at_ns - begin[0]) for at_ns, transit_ns in points]
        span_ns = points[-1][0] - points[0][0]
        return round(-slope * 1e6, 1), round(2e6 * median(above_ns) / span_ns, 1)


def _lower_hull(points: list[Point]) -> list[Point]:
    """Its corners from left to right; ``points`` in that order, no two at the same time."""
    hull: list[Point] = []
    for point in points:
        while len(hull) > 1 and _turns_right(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _turns_right(a: Point, b: Point, c: Point) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0])
