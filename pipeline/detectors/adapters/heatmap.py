# SPDX-License-Identifier: Apache-2.0
"""Score maps of one class: (B, 1, rows, columns). Connected regions become boxes, or peaks boxes of a stated size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from pipeline.detectors.adapter import Limits, Parsed
from pipeline.detectors.adapters.family import Family, Options, flag, lengths, only
from pipeline.detectors.adapters.tensors import first_tensor, of_rank, refuse_shape, shape_of
from pipeline.detectors.preprocessing import USUAL, Preprocessing
from pipeline.detectors.suppress import finish
from pipeline.frame import Detections, FloatArray, InputSpec

_SHAPE = "(B, 1, rows, columns)"


@dataclass(frozen=True, slots=True)
class Heatmap:
    """Class 0 only. A cell of the map stands for ``input / map`` pixels of the input in each direction.

    Without ``box``, cells at or above the confidence that touch each other (also at corners) are one detection: its
    box is their extent, its confidence the highest of them. With ``box``, every cell that is at least as high as its
    eight neighbours is the centre of a box of that size, and overlaps are suppressed.

    Attributes:
        box: width and height of boxes in network pixels, or None for the extent of regions.
        logits: the map holds logits instead of scores.
    """

    box: tuple[float, float] | None = None
    logits: bool = False
    classes: int = 1
    name: str = "heatmap"
    preprocessing: Preprocessing = USUAL

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        shape = shape_of(outputs)
        if len(shape) != 4 or shape[:2] != (size, 1):
            raise refuse_shape(outputs, _SHAPE.replace("B", str(size)))

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """Cells that are not finite are counted and count as empty; infinite ones of either sign, too."""
        values = first_tensor(outputs)[:count, 0].float()
        maps = (values.sigmoid() if self.logits else values).cpu().numpy()
        finite = np.isfinite(values.cpu().numpy())
        invalid = (~finite).sum((1, 2)).tolist()
        maps = np.where(finite, maps, np.float32(0.0))
        steps = np.array([spec.width / maps.shape[2], spec.height / maps.shape[1]] * 2, np.float32)
        return Parsed([self._found(each, steps, limits) for each in maps], invalid)

    def _found(self, scores: FloatArray, steps: FloatArray, limits: Limits) -> Detections:
        above = scores >= max(limits.confidence, 1e-30)
        if not above.any():
            return Detections.empty()
        if self.box is None:
            boxes, best = _regions(scores, above)
            xyxy = boxes * steps
        else:
            rows, columns = np.nonzero(above & (scores >= cv2.dilate(scores, np.ones((3, 3), np.uint8))))
            best = scores[rows, columns]
            centre = (np.stack((columns, rows), 1) + np.float32(0.5)) * steps[:2]
            half = np.array(self.box, np.float32) / 2
            xyxy = np.concatenate((centre - half, centre + half), axis=1).astype(np.float32)
        class_ids = np.zeros(len(best), np.int64)
        return finish(xyxy, best, class_ids, limits, overlap=self.box is not None)


def _regions(scores: FloatArray, above: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[FloatArray, FloatArray]:
    """(n, 4) extents in cells, corners, and (n,) highest scores of 8-connected regions."""
    number, labels, stats, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8), connectivity=8)
    best = np.zeros(number, np.float32)
    np.maximum.at(best, labels[above], scores[above])
    left, top, width, height = stats[1:, :4].astype(np.float32).T
    return np.stack((left, top, left + width, top + height), 1), best[1:]


def _make(outputs: Any, spec: InputSpec, options: Options) -> Heatmap:
    only(options, "box", "logits")
    output = of_rank(outputs, 4, _SHAPE)
    logits = flag(options, "logits")
    if logits is None:  # scores may miss 0..1 by a little, logits leave it by far
        finite = output[torch.isfinite(output)]
        logits = bool(finite.numel()) and (float(finite.amin()) < -1.0 or float(finite.amax()) > 2.0)
    return Heatmap(lengths(options, "box"), logits)


HEATMAP = Family("heatmap", USUAL, _make)
