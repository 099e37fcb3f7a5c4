# SPDX-License-Identifier: Apache-2.0
"""Heads with objectness as the YOLOv5 repository exports them: (B, anchors, 5 + classes), often first of a tuple."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pipeline.detectors.adapter import UNIT, Encoding, Limits, Parsed
from pipeline.detectors.adapters.tensors import (
    candidates_to_detections,
    first_tensor,
    refuse_shape,
    shape_of,
    to_pixels,
)
from pipeline.frame import Detections, InputSpec


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
    encoding: Encoding = UNIT

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        shape = shape_of(outputs)
        if len(shape) != 3 or shape[0] != size or shape[2] != 5 + self.classes:
            raise refuse_shape(outputs, f"({size}, anchors, {5 + self.classes})")

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """Each anchor's most probable class counts."""
        output = first_tensor(outputs)[:count]
        objectness = output[..., 4]
        picture, anchor = (objectness >= limits.confidence).nonzero().unbind(1)
        invalid = [0] * count
        if torch.isnan(objectness.sum()):
            invalid = torch.isnan(objectness).sum(1).tolist()
        if not len(picture):
            return Parsed([Detections.empty() for _ in range(count)], invalid)
        rows = output[picture, anchor].float().cpu().numpy()
        class_ids = rows[:, 5:].argmax(1)
        scores = rows[:, 4] * rows[:, 5:].max(1)
        return candidates_to_detections(
            to_pixels(rows[:, :4], spec, self.normalised), scores, class_ids, picture.cpu().numpy(), invalid, limits
        )
