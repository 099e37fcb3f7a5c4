# SPDX-License-Identifier: Apache-2.0
"""From candidate boxes of one picture to its detections: limits, order and per-class non-maximum suppression."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.detectors.adapter import Limits
from pipeline.detectors.loading.operators import suppress_operator
from pipeline.frame import Detections, FloatArray, IntArray

MAX_CANDIDATES = 4096
"""The most confident candidates that enter suppression, whose time grows with their square (20 ms for 4096)."""

# Boxes are moved apart by class before one common suppression (as torchvision.ops.batched_nms does). Here in float64
# and inside a fixed range, so that neither a far-off box nor a high class id costs precision.
_RANGE = 65536.0


def finish(xyxy: FloatArray, scores: FloatArray, class_ids: IntArray, limits: Limits, *, overlap: bool) -> Detections:
    """Apply the limits to the candidates of one picture.

    Args:
        xyxy: (k, 4) corners in network pixels, finite.
        scores: (k,) finite; clamped to [0, 1].
        class_ids: (k,).
        limits: what to keep.
        overlap: whether overlapping boxes of one class are to be suppressed (the network did not do it).

    Returns:
        detections, most confident first; of equals, the earlier row first. Boxes without area are removed.
    """
    keep = (scores >= limits.confidence) & (scores > 0.0) & (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    if limits.classes is not None:
        keep &= np.isin(class_ids, list(limits.classes))
    rows = np.flatnonzero(keep)
    if not len(rows):
        return Detections.empty()
    rows = rows[np.argsort(-scores[rows], kind="stable")[: MAX_CANDIDATES if overlap else limits.max_detections]]
    if overlap and len(rows) > 1:
        rows = rows[suppressed(xyxy[rows], scores[rows], class_ids[rows], limits.iou)][: limits.max_detections]
    return Detections(xyxy[rows], np.minimum(scores[rows], np.float32(1.0)), class_ids[rows])


def suppressed(xyxy: FloatArray, scores: FloatArray, class_ids: IntArray, iou: float) -> IntArray:
    """Greedy non-maximum suppression within each class.

    Args:
        xyxy: (k, 4) corners in pixels.
        scores: (k,).
        class_ids: (k,).
        iou: boxes whose intersection over union with a more confident box of their class exceeds this are removed.

    Returns:
        (n,) indices of the boxes that stay, most confident first.
    """
    boxes = np.clip(xyxy.astype(np.float64), -_RANGE, _RANGE)
    boxes += (class_ids.astype(np.float64) * (4.0 * _RANGE))[:, None]
    kept = suppress_operator()(torch.from_numpy(boxes), torch.from_numpy(scores.astype(np.float64)), iou)
    found: IntArray = kept.numpy()
    return found
