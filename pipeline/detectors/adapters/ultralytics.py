# SPDX-License-Identifier: Apache-2.0
"""Ultralytics heads (YOLOv5u, v8, v11 and relatives), exported without suppression: (B, 4 + classes, anchors)."""

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
class Ultralytics:
    """Box (centre x, centre y, width, height) in network pixels, then one finished score per class, no objectness.

    Attributes:
        classes: number of classes.
        normalised: boxes come in units of the input's width and height instead of in pixels.
    """

    classes: int
    normalised: bool = False
    name: str = "ultralytics"
    encoding: Encoding = UNIT

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        shape = shape_of(outputs)
        if len(shape) != 3 or shape[0] != size or shape[1] != 4 + self.classes:
            raise refuse_shape(outputs, f"({size}, {4 + self.classes}, anchors)")

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """Each anchor's most probable class counts, as in the reference implementation's prediction mode."""
        output = first_tensor(outputs)[:count]
        # The maximum over classes of a whole batch runs along contiguous anchors; indices are sought for hits only.
        best = output[:, 4:].amax(1)
        picture, anchor = (best >= limits.confidence).nonzero().unbind(1)
        invalid = [0] * count
        if torch.isnan(best.sum()):
            invalid = torch.isnan(best).sum(1).tolist()
        if not len(picture):
            return Parsed([Detections.empty() for _ in range(count)], invalid)
        rows = output[picture, :, anchor].float().cpu().numpy()
        class_ids = rows[:, 4:].argmax(1)
        scores = rows[:, 4:].max(1)
        return candidates_to_detections(
            to_pixels(rows[:, :4], spec, self.normalised), scores, class_ids, picture.cpu().numpy(), invalid, limits
        )
