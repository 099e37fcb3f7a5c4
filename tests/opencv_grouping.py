# SPDX-License-Identifier: Apache-2.0
"""OpenCV's grouping of overlapping windows in numpy, for comparison with it; the product's own is in `postprocess`."""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


def group_windows(boxes: Integers, margins: Floats, threshold: int, eps: float = 0.2) -> tuple[Integers, Floats]:
    """Do as `cv2.HOGDescriptor.detectMultiScale` does with its raw windows (`HOGDescriptor::groupRectangles`).

    `boxes`: (n, 4) x, y, width, height; `margins`: (n,). Windows are alike when all four edges differ by at most
    `eps` x the mean of the smaller width and height. Each connected group of more than `threshold` becomes its mean
    box, rounded, with its best margin; a group inside another (grown by `eps`) goes if it is much the smaller group.
    Returns (m, 4) and (m,), by the first member of each group. With `threshold` 0 the windows are returned as given.
    """
    if threshold <= 0 or len(boxes) == 0:
        return boxes, margins
    group = components(alike(boxes, eps))
    count = np.bincount(group)
    mean = np.stack([np.bincount(group, boxes[:, k]) for k in range(4)], 1) * (1.0 / count)[:, None]
    best = np.full(len(count), -np.inf)
    np.maximum.at(best, group, margins)
    kept = count > threshold
    rects, best, count = np.rint(mean[kept]).astype(np.int64), best[kept], count[kept]
    low, high = rects[:, :2], rects[:, :2] + rects[:, 2:]
    slack = np.rint(rects[:, 2:] * eps).astype(np.int64)
    inside = (low[:, None] >= (low - slack)[None]).all(2) & (high[:, None] <= (high + slack)[None]).all(2)
    weaker = (count[None] > np.maximum(3, count)[:, None]) | (count < 3)[:, None]
    swallowed = inside & weaker & ~np.eye(len(rects), dtype=bool)
    free = ~swallowed.any(1)
    return rects[free], best[free]


def alike(boxes: Integers, eps: float) -> NDArray[np.bool_]:
    """Which pairs of boxes (n, 4: x, y, width, height) are alike, (n, n)."""
    size = boxes[:, 2:].astype(np.float64)
    reach = eps * 0.5 * np.minimum(size[:, None], size[None]).sum(2)
    near: NDArray[np.bool_] = np.ones(reach.shape, dtype=bool)
    for edge in (boxes[:, 0], boxes[:, 1], boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]):
        near &= np.abs(edge[:, None] - edge[None]) <= reach
    return near


def components(linked: NDArray[np.bool_]) -> Integers:
    """Number the connected components of a symmetric relation (n, n) from 0, in order of their first member."""
    count = len(linked)
    label = np.arange(count)
    while True:
        lowest = np.where(linked, label[None], count).min(1)
        lowest = lowest[lowest]
        if np.array_equal(lowest, label):
            return np.unique(label, return_inverse=True)[1].astype(np.int64)
        label = lowest
