# SPDX-License-Identifier: Apache-2.0
"""Ultralytics heads (YOLOv5u, v8, v11 and relatives), exported without suppression: (B, 4 + classes, anchors)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.detectors.adapter import Limits, Parsed
from pipeline.detectors.adapters.family import Family, Options, only
from pipeline.detectors.adapters.tensors import (
    count_nan,
    first_tensor,
    nothing,
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
class Ultralytics:
    """Box (centre x, centre y, width, height) in network pixels, then one finished score per class, no objectness.

    Attributes:
        classes: number of classes.
        normalised: boxes come in units of the input's width and height instead of in pixels.
    """

    classes: int
    normalised: bool = False
    name: str = "ultralytics"
    preprocessing: Preprocessing = USUAL

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
        invalid = count_nan(best)
        if not len(picture):
            return nothing(invalid)
        rows = output[picture, :, anchor].float().cpu().numpy()
        xyxy = to_corners(to_pixels(rows[:, :4], spec, self.normalised))
        scores, class_ids = rows[:, 4:].max(1), rows[:, 4:].argmax(1)
        return share_out(xyxy, scores, class_ids, picture.cpu().numpy(), invalid, limits, overlap=True)


def _make(outputs: Any, spec: InputSpec, options: Options) -> Ultralytics:
    only(options, "normalised")
    output = of_rank(outputs, 3, "(B, 4 + classes, anchors)")
    return Ultralytics(max(1, output.shape[1] - 4), units(output[:, :4], options))


ULTRALYTICS = Family("ultralytics", USUAL, _make)
