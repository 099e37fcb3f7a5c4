# SPDX-License-Identifier: Apache-2.0
"""A region of interest: the part of a picture that the network sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import StageError
from pipeline.frame import Rotation
from pipeline.stages.geometry import Box

_SLACK = 1e-6  # 0.1 * 1920 is 192.00000000000003: not a reason to take a 193rd column


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in the picture as displayed (rotation applied).

    Attributes:
        x, y: left and top.
        width, height: its size.
        unit: ``fraction`` of the picture's width and height, 0..1, or ``pixels``.

    Raises:
        ValueError: a negative or unordered value, or a fraction beyond the picture. Whether a region in pixels fits
            is known only when a picture comes.
    """

    x: float
    y: float
    width: float
    height: float
    unit: Literal["fraction", "pixels"] = "fraction"

    def __post_init__(self) -> None:
        values = (self.x, self.y, self.width, self.height)
        finite = all(math.isfinite(value) for value in values)
        if not finite or min(self.x, self.y) < 0 or min(self.width, self.height) <= 0:
            raise ValueError(f"a region is x, y >= 0 and width, height > 0, not {values}")
        if self.unit == "fraction" and max(self.x + self.width, self.y + self.height) > 1 + _SLACK:
            raise ValueError(f"a region in fractions ends at 1 at the latest, not {values}; for pixels say so")

    @classmethod
    def of(cls, values: Sequence[float]) -> Region:
        """A region from four numbers: fractions when none of them is over 1, otherwise pixels; raises ValueError."""
        if len(values) != 4:
            raise ValueError(f"a region is four numbers (x, y, width, height), not {len(values)}")
        x, y, width, height = values
        return cls(x, y, width, height, "fraction" if max(values) <= 1 else "pixels")

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in whole pixels of a picture as displayed, rounded outwards.

        Raises:
            StageError: it leaves the picture.
        """
        scale_x, scale_y = (width, height) if self.unit == "fraction" else (1, 1)
        left, top = math.floor(self.x * scale_x + _SLACK), math.floor(self.y * scale_y + _SLACK)
        right = math.ceil((self.x + self.width) * scale_x - _SLACK)
        bottom = math.ceil((self.y + self.height) * scale_y - _SLACK)
        if self.unit == "fraction":
            right, bottom = min(right, width), min(bottom, height)
        if right > width or bottom > height:
            raise StageError(
                f"the region ends at ({right}, {bottom}) but the picture has {width}x{height} pixels; "
                "make it smaller or give it in fractions"
            )
        return left, top, right, bottom


def to_stored(box: Box, stored_width: int, stored_height: int, rotation: Rotation) -> Box:
    """A rectangle of the displayed picture as a rectangle of the stored one (before the clockwise turn)."""
    x, y, width, height = box
    if rotation == 90:
        return Box(y, stored_height - x - width, height, width)
    if rotation == 180:
        return Box(stored_width - x - width, stored_height - y - height, width, height)
    if rotation == 270:
        return Box(stored_width - y - height, x, height, width)
    return box


def to_displayed(box: Box, stored_width: int, stored_height: int, rotation: Rotation) -> Box:
    """The inverse of :func:`to_stored`."""
    x, y, width, height = box
    if rotation == 90:
        return Box(stored_height - y - height, x, height, width)
    if rotation == 180:
        return Box(stored_width - x - width, stored_height - y - height, width, height)
    if rotation == 270:
        return Box(y, stored_width - x - width, height, width)
    return box


def align(box: Box, step_x: int, step_y: int, width: int, height: int) -> Box:
    """Grow a rectangle outwards to whole chroma samples (``step_x`` x ``step_y`` pixels), not beyond the picture."""
    left, top = box.x // step_x * step_x, box.y // step_y * step_y
    right = min(width, -(-(box.x + box.width) // step_x) * step_x)
    bottom = min(height, -(-(box.y + box.height) // step_y) * step_y)
    return Box(left, top, right - left, bottom - top)
