# SPDX-License-Identifier: Apache-2.0
"""From scored windows to people: one tight box per person, with a confidence. design/people.md argues the numbers."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

SLOPE = 4.0
OFFSET = -2.4
"""confidence = 1 / (1 + exp(-(SLOPE x margin + OFFSET))): 0.08 at margin 0, 0.40 at 0.5, 0.83 at 1."""

SIDE, HEAD, FOOT = 0.215, 0.10, 0.13
"""Shares of a window's width (left and right) and height (above and below) that lie outside of the person."""

MAX_WINDOWS = 512
"""The best windows of a picture that are looked at; the time grows with the square."""

SAME_PERSON = 0.4
"""Intersection over union from which a window supports a better one."""

PART_INSIDE, PART_AREA, PART_MARGIN = 0.7, 0.5, 1.0
"""A box goes as a part of a larger one with at least as many windows if this share of it lies inside, its area is below
this share, and its margin is not better by more than this."""


def confidence_of(margin: Floats) -> Floats:
    """Logistic of the SVM margin, in [0, 1]."""
    values: Floats = 1.0 / (1.0 + np.exp(-(SLOPE * margin + OFFSET)))
    return values.astype(np.float32)


def decode_people(rows: Tensor, confidence: float, iou: float) -> list[Floats]:
    """Turn the windows of `HogPeople` into people.

    `rows`: float32 (B, K, 6), x1, y1, x2, y2, margin, 0, best first, padded with margin -inf. `confidence`: least
    confidence of a returned person. `iou`: of two people overlapping by more than this (intersection over union) only
    the more confident stays. Returns B arrays float32 (n, 6): x1, y1, x2, y2, confidence, class 0, in pixels of the
    input, most confident first; boxes may reach beyond the picture.
    A person's box does not depend on `confidence`: it only selects.
    """
    found = rows.detach().cpu().numpy()
    return [_people(picture[np.isfinite(picture[:, 4])][:MAX_WINDOWS], confidence, iou) for picture in found]


def _people(windows: Floats, confidence: float, iou: float) -> Floats:
    if len(windows) == 0 or confidence_of(windows[:1, 4])[0] < confidence:
        return np.zeros((0, 6), dtype=np.float32)
    persons = shrink(windows[:, :4])
    margins = windows[:, 4]
    seeds, members = _cluster(_overlap(persons, persons)[0] >= SAME_PERSON)
    # The mean of a cluster is tighter than its best window, which lies on a grid of 8 pixels and coarse scales. Weights
    # begin half a unit below 0, so that the weakest window (-0.3) still counts a little.
    weights = members * np.maximum(margins + 0.5, 0.1)
    boxes = (weights @ persons) / weights.sum(1, keepdims=True)
    support = members.sum(1)
    best = margins[seeds]
    alone = ~_is_part(boxes, best, support)
    boxes, scores = boxes[alone], confidence_of(best[alone])
    kept = _suppress(_overlap(boxes, boxes)[0] > iou) & (scores >= confidence)
    result = np.zeros((int(kept.sum()), 6), dtype=np.float32)
    result[:, :4], result[:, 4] = boxes[kept], scores[kept]
    return result


def shrink(windows: Floats) -> Floats:
    """Cut windows (n, 4) down to the person that a window is trained to hold."""
    width, height = windows[:, 2] - windows[:, 0], windows[:, 3] - windows[:, 1]
    cut = np.stack([SIDE * width, HEAD * height, -SIDE * width, -FOOT * height], 1)
    return (windows + cut).astype(np.float32)


def _overlap(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Intersection over union, and intersection over the area of the first, each (n, m)."""
    size = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(first[:, None, :2], second[None, :, :2])
    size = np.maximum(size, 0.0)
    shared = size[:, :, 0] * size[:, :, 1]
    area = (first[:, 2] - first[:, 0]) * (first[:, 3] - first[:, 1])
    other = (second[:, 2] - second[:, 0]) * (second[:, 3] - second[:, 1])
    return shared / (area[:, None] + other[None] - shared), shared / area[:, None]


def _cluster(same: Flags) -> tuple[NDArray[np.int64], Floats]:
    """Best first, let each free window gather the free windows that are the same person.

    `same`: (n, n). Returns the seeds (c,) and the membership (c, n), 1 or 0.
    """
    free = np.ones(len(same), dtype=bool)
    seeds: list[int] = []
    members: list[Flags] = []
    for seed in range(len(same)):
        if free[seed]:
            gathered = same[seed] & free
            free &= ~gathered
            seeds.append(seed)
            members.append(gathered)
    return np.array(seeds), np.array(members, dtype=np.float32)


def _is_part(boxes: Floats, margins: Floats, support: Floats) -> Flags:
    """Which boxes (c, 4) are a part of a larger person, such as a pair of legs: see PART_INSIDE."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    part = _overlap(boxes, boxes)[1] >= PART_INSIDE
    part &= area[:, None] < PART_AREA * area[None]
    part &= support[None] >= support[:, None]
    part &= margins[None] > margins[:, None] - PART_MARGIN
    return np.asarray(part.any(1))


def _suppress(clash: Flags) -> Flags:
    """Keep each box, best first, unless it clashes (n, n) with one already kept."""
    kept = np.ones(len(clash), dtype=bool)
    for i in range(len(clash)):
        if kept[i]:
            kept[i + 1 :] &= ~clash[i, i + 1 :]
    return kept
