# SPDX-License-Identifier: Apache-2.0
"""Heads with objectness as the YOLOv5 repository exports them: (B, anchors, 5 + classes), often first of a tuple."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.detectors.adapter import Limits, Parsed
from pipeline.detectors.adapters.family import Family, Options, only
from pipeline.detectors.adapters.tensors import (
    first_tensor,
    objects,
    of_rank,
    refuse_shape,
    shape_of,
    share_out,
    to_corners,
    to_pixels,
    units,
)
from pipeline.detectors.preprocessing import USUAL, Preprocessing
from pipeline.frame import InputSpec


@dataclass(frozen=True, slots=True)
class Yolov5:
    """Box (centre x, centre y, width, height) in network pixels, objectness, then one probability per class.

    The confidence is objectness times class probability; both are at most 1, so objectness alone rules rows out.

    Attributes:
        classes: number of classes.
        normalised: boxes come in units of the input's width and height instead of in pixels.
    """

    classes: int
    normalised: bool = False
    name: str = "yolov5"
    preprocessing: Preprocessing = USUAL

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        shape = shape_of(outputs)
        if len(shape) != 3 or shape[0] != size or shape[2] != 5 + self.classes:
            raise refuse_shape(outputs, f"({size}, anchors, {5 + self.classes})")

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """Each anchor's most probable class counts."""
        output = first_tensor(outputs)[:count]
        found = objects(output, limits.confidence)
        xyxy = to_corners(to_pixels(found.rows[:, :4], spec, self.normalised))
        return share_out(xyxy, found.scores, found.class_ids, found.pictures, found.invalid, limits, overlap=True)


def _make(outputs: Any, spec: InputSpec, options: Options) -> Yolov5:
    only(options, "normalised")
    output = of_rank(outputs, 3, "(B, anchors, 5 + classes)")
    return Yolov5(max(1, output.shape[2] - 5), units(output[..., :4], options))


YOLOV5 = Family("yolov5", USUAL, _make)
