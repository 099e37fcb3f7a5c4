# SPDX-License-Identifier: Apache-2.0
"""What a detector is given, and how to get from it back to the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.frame.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a detector wants to be given: uint8 HWC pictures of one size.

    Attributes:
        height, width: network input in pixels.
        colour: channel order.
        fit: how a picture gets into it: ``letterbox`` keeps the aspect ratio and centres, ``top_left`` keeps it and
            pads right and below, ``stretch`` does not keep it.
        pad_value: grey level of the padding, 0..255.
        trim: padding may be left off as long as both sides stay multiples of this many pixels (:meth:`trimmed`);
            0: the network takes this size only.
    """

    height: int
    width: int
    colour: Literal["rgb", "bgr"] = "rgb"
    fit: Literal["letterbox", "top_left", "stretch"] = "letterbox"
    pad_value: int = 114
    trim: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of one input picture."""
        return (self.height, self.width, 3)

    def trimmed(self, width: int, height: int) -> InputSpec:
        """The smallest input that shows a picture of ``width`` x ``height`` pixels at the same scale as this one.

        A 16:9 picture fills 198 of the 352 rows of a square input: with ``trim`` 32 it gets 224 rows.
        """
        if not self.trim or self.fit == "stretch":
            return replace(self, trim=0) if self.trim else self
        ratio = min(self.height / height, self.width / width)
        # Up to whole pixels first: an input smaller than the scaled picture would show it at a smaller scale.
        rows, columns = (math.ceil(side * ratio - 1e-6) for side in (height, width))
        rows, columns = (-(-side // self.trim) * self.trim for side in (rows, columns))
        return replace(self, height=min(rows, self.height), width=min(columns, self.width), trim=0)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How source pixels map to network pixels: ``network = (source - offset) * scale + pad``, per axis.

    Attributes:
        source_width, source_height: the picture as displayed, in pixels; boxes are clipped to it.
        scale_x, scale_y: network pixels per source pixel.
        pad_x, pad_y: network pixels left of and above the picture.
        offset_x, offset_y: source pixels left of and above the region that the network sees.
    """

    source_width: int
    source_height: int
    scale_x: float
    scale_y: float
    pad_x: float = 0.0
    pad_y: float = 0.0
    offset_x: float = 0.0
    offset_y: float = 0.0

    def to_source(self, xyxy: FloatArray) -> FloatArray:
        """Boxes (n, 4) from network pixels to source pixels, float32, clipped to the picture."""
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float64)
        pad = np.array([self.pad_x, self.pad_y] * 2, np.float64)
        offset = np.array([self.offset_x, self.offset_y] * 2, np.float64)
        limit = np.array([self.source_width, self.source_height] * 2, np.float64)
        boxes = (xyxy.astype(np.float64) - pad) / scale + offset
        return np.clip(boxes, 0.0, limit).astype(np.float32)
