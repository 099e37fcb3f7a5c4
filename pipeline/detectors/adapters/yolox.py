# SPDX-License-Identifier: Apache-2.0
"""YOLOX: (B, cells, 5 + classes), scores finished, boxes either decoded by the network or left as raw grid offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.detectors.adapter import Limits, Parsed
from pipeline.detectors.adapters.family import Family, Options, flag, only
from pipeline.detectors.adapters.grid import cells, grid, strides_of
from pipeline.detectors.adapters.tensors import (
    first_tensor,
    objects,
    of_rank,
    refuse_shape,
    shape_of,
    share_out,
    to_corners,
)
from pipeline.detectors.preprocessing import Preprocessing
from pipeline.errors import InferenceError
from pipeline.frame import FloatArray, InputSpec, IntArray

PREPROCESSING = Preprocessing(colour="bgr", scale=1.0, fit="top_left", stride=32)
"""``preproc`` of the YOLOX repository: OpenCV's BGR, grey levels 0..255 as they are, padding right and below."""


@dataclass(frozen=True, slots=True)
class Yolox:
    """Box, objectness, one probability per class; one row per cell of the levels with strides 8, 16, 32 (and 64).

    Attributes:
        classes: number of classes.
        decoded: boxes are centre and size in network pixels (exported with ``--decode_in_inference``). Otherwise they
            are offsets within the cell and logarithms of the size, both in cells: ``centre = (offset + cell) *
            stride``, ``size = exp(logarithm) * stride`` (``YOLOXHead.decode_outputs``).
        strides: of the levels.
    """

    classes: int
    decoded: bool
    strides: tuple[int, ...] = (8, 16, 32)
    name: str = "yolox"
    preprocessing: Preprocessing = PREPROCESSING

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        shape = shape_of(outputs)
        if len(shape) != 3 or shape[0] != size or shape[2] != 5 + self.classes:
            raise refuse_shape(outputs, f"({size}, cells, {5 + self.classes})")

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """Each cell's most probable class counts; the confidence is objectness times its probability."""
        output = first_tensor(outputs)[:count]
        expected = cells(spec.height, spec.width, self.strides)
        if not self.decoded and output.shape[1] != expected:
            raise InferenceError(f"{output.shape[1]} rows; an input of {spec.width}x{spec.height} has {expected} cells")
        found = objects(output, limits.confidence)
        boxes = found.rows[:, :4]
        if not self.decoded:
            boxes = decode(boxes, found.places, spec, self.strides)
        xyxy = to_corners(boxes)
        return share_out(xyxy, found.scores, found.class_ids, found.pictures, found.invalid, limits, overlap=True)


def decode(raw: FloatArray, cell: IntArray, spec: InputSpec, strides: tuple[int, ...]) -> FloatArray:
    """(k, 4) raw values of the given cells to centre and size in network pixels; what overflows becomes infinite."""
    table = grid(spec.height, spec.width, strides)[cell]
    stride = table[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate(((raw[:, :2] + table[:, :2]) * stride, np.exp(raw[:, 2:]) * stride), axis=1)


def _make(outputs: Any, spec: InputSpec, options: Options) -> Yolox:
    only(options, "decoded")
    expected = "(B, cells, 5 + classes), one row per cell of strides 8, 16, 32,"
    output = of_rank(outputs, 3, expected)
    strides = strides_of(output.shape[1], spec)
    if strides is None or output.shape[2] < 6:
        raise refuse_shape(outputs, expected)
    decoded = flag(options, "decoded")
    if decoded is None:
        decoded = _is_decoded(output[..., :4].cpu().numpy(), spec, strides)
    return Yolox(output.shape[2] - 5, decoded, strides)


def _is_decoded(boxes: FloatArray, spec: InputSpec, strides: tuple[int, ...]) -> bool:
    """Decoded centres lie near their cells; raw offsets lie near zero, and raw sizes may be negative.

    Both cannot be: the median cell is tens of cells away from the corner.
    """
    table = grid(spec.height, spec.width, strides)
    if bool((boxes[..., 2:] < 0.0).any()):
        return False
    with np.errstate(invalid="ignore"):
        away = np.abs(boxes[..., :2] / table[:, 2:] - table[:, :2])
        near_zero = np.abs(boxes[..., :2])
    return bool(np.nanmedian(away) < np.nanmedian(near_zero)) if np.isfinite(boxes).any() else True


YOLOX = Family("yolox", PREPROCESSING, _make)
