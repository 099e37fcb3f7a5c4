# SPDX-License-Identifier: Apache-2.0
"""NanoDet-Plus: (B, cells, classes + 4 * (reg_max + 1)), class logits and a distribution per side of the box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.detectors.adapter import Limits, Parsed
from pipeline.detectors.adapters.family import Family, Options, flag, only, whole
from pipeline.detectors.adapters.grid import cells, grid, strides_of
from pipeline.detectors.adapters.tensors import (
    count_nan,
    first_tensor,
    least_logit,
    nothing,
    of_rank,
    refuse_shape,
    shape_of,
    share_out,
    sigmoid,
)
from pipeline.detectors.preprocessing import Preprocessing
from pipeline.errors import InferenceError
from pipeline.frame import FloatArray, InputSpec, IntArray

PREPROCESSING = Preprocessing(
    colour="bgr",
    scale=1.0,
    mean=(103.53, 116.28, 123.675),
    std=(57.375, 57.12, 58.395),
    fit="stretch",
    stride=32,
)
"""The ``pipeline: normalize`` and ``keep_ratio: False`` of the published NanoDet-Plus configurations."""


@dataclass(frozen=True, slots=True)
class Nanodet:
    """Every class of a cell is a candidate of its own, as in the repository's ``multiclass_nms``.

    A side's distance from the cell's corner ``(column, row) * stride`` is the mean of a distribution over 0..reg_max
    cells: ``softmax(logits) . (0, 1, ..., reg_max) * stride`` (Li et al., Generalized Focal Loss, 2020). Boxes are
    clipped to the input.

    Attributes:
        classes: number of classes.
        strides: of the levels.
        reg_max: largest distance in cells.
        logits: class values are logits; else the network has applied the sigmoid already.
    """

    classes: int
    strides: tuple[int, ...] = (8, 16, 32, 64)
    reg_max: int = 7
    logits: bool = True
    name: str = "nanodet"
    preprocessing: Preprocessing = PREPROCESSING

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        shape = shape_of(outputs)
        channels = self.classes + 4 * (self.reg_max + 1)
        if len(shape) != 3 or shape[0] != size or shape[2] != channels:
            raise refuse_shape(outputs, f"({size}, cells, {channels})")

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """Distributions are decoded for the candidates only."""
        output = first_tensor(outputs)[:count]
        expected = cells(spec.height, spec.width, self.strides)
        if output.shape[1] != expected:
            raise InferenceError(f"{output.shape[1]} rows; an input of {spec.width}x{spec.height} has {expected} cells")
        values = output[..., : self.classes]
        least = least_logit(limits.confidence) if self.logits else limits.confidence
        picture, cell, class_id = (values >= least).nonzero().unbind(1)
        invalid = count_nan(values.amax(2))
        if not len(picture):
            return nothing(invalid)
        found = values[picture, cell, class_id]
        scores = sigmoid(found) if self.logits else found.float().cpu().numpy()
        sides = output[picture, cell, self.classes :].float().cpu().numpy()
        xyxy = self._boxes(sides.reshape(-1, 4, self.reg_max + 1), cell.cpu().numpy(), spec)
        return share_out(xyxy, scores, class_id.cpu().numpy(), picture.cpu().numpy(), invalid, limits, overlap=True)

    def _boxes(self, sides: FloatArray, cell: IntArray, spec: InputSpec) -> FloatArray:
        """(k, 4, reg_max + 1) logits to corners (k, 4)."""
        table = grid(spec.height, spec.width, self.strides)[cell]
        with np.errstate(invalid="ignore", over="ignore"):
            weights = np.exp(sides - sides.max(2, keepdims=True))
            steps = np.arange(self.reg_max + 1, dtype=np.float32)
            distances = (weights @ steps) / weights.sum(2) * table[:, 2:]
        corner = table[:, :2] * table[:, 2:]
        xyxy = np.concatenate((corner - distances[:, :2], corner + distances[:, 2:]), axis=1)
        clipped: FloatArray = np.clip(xyxy, 0.0, np.array([spec.width, spec.height] * 2, np.float32))
        return clipped


def _make(outputs: Any, spec: InputSpec, options: Options) -> Nanodet:
    only(options, "reg_max", "logits")
    reg_max = whole(options, "reg_max", 7, 1, 64)
    channels = 4 * (reg_max + 1)
    expected = f"(B, cells, classes + {channels}), one row per cell of strides 8, 16, 32, 64,"
    output = of_rank(outputs, 3, expected)
    strides = strides_of(output.shape[1], spec)
    if strides is None or output.shape[2] <= channels:
        raise refuse_shape(outputs, expected)
    classes = output.shape[2] - channels
    logits = flag(options, "logits")
    if logits is None:  # a probability is never negative, and some logit always is
        logits = bool((output[..., :classes] < 0.0).any())
    return Nanodet(classes, strides, reg_max, logits)


NANODET = Family("nanodet", PREPROCESSING, _make)
