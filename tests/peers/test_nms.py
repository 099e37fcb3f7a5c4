# SPDX-License-Identifier: Apache-2.0
"""Suppression against a brute-force NumPy reference and against torchvision's own class-wise loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.detectors.loading.operators import greedy
from pipeline.detectors.suppress import suppressed


def brute_force(xyxy: np.ndarray, scores: np.ndarray, class_ids: np.ndarray, iou: float) -> list[int]:
    """All pairs in float64; a box goes when a better one of its class that stays overlaps it by more than ``iou``."""
    boxes = xyxy.astype(np.float64)
    x1, y1, x2, y2 = boxes.T
    width = np.clip(np.minimum.outer(x2, x2) - np.maximum.outer(x1, x1), 0, None)
    height = np.clip(np.minimum.outer(y2, y2) - np.maximum.outer(y1, y1), 0, None)
    shared = width * height
    area = (x2 - x1) * (y2 - y1)
    ratio = shared / (area[:, None] + area[None, :] - shared)
    kept: list[int] = []
    for index in np.argsort(-scores.astype(np.float64), kind="stable"):
        if not any(class_ids[index] == class_ids[other] and ratio[index, other] > iou for other in kept):
            kept.append(int(index))
    return kept


def crowd(n: int, classes: int, seed: int, low: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(low, 600, (n, 2))
    xyxy = np.concatenate((corner, corner + rng.uniform(20, 200, (n, 2))), 1).astype(np.float32)
    scores = rng.choice(np.linspace(0.1, 1, 60), n).astype(np.float32)  # with ties
    return xyxy, scores, rng.integers(0, classes, n)


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize(("n", "classes"), [(2, 1), (60, 1), (300, 4), (300, 80)])
def test_equals_brute_force(n: int, classes: int, iou: float) -> None:
    for seed in range(3):
        xyxy, scores, class_ids = crowd(n, classes, seed, low=-150.0)
        assert suppressed(xyxy, scores, class_ids, iou).tolist() == brute_force(xyxy, scores, class_ids, iou)


def test_the_way_out_without_torchvision_equals_brute_force() -> None:
    for seed in range(3):
        xyxy, scores, class_ids = crowd(200, 1, seed)
        kept = greedy(xyxy.astype(np.float64), scores.astype(np.float64), 0.5)
        assert kept.tolist() == brute_force(xyxy, scores, class_ids, 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_equals_torchvision_class_by_class(seed: int) -> None:
    xyxy, scores, class_ids = crowd(400, 7, seed)
    kept: list[int] = []
    for class_id in range(7):
        rows = np.flatnonzero(class_ids == class_id)
        chosen = torchvision.ops.nms(torch.from_numpy(xyxy[rows]), torch.from_numpy(scores[rows]), 0.5)
        kept.extend(rows[chosen.numpy()].tolist())
    assert sorted(suppressed(xyxy, scores, class_ids, 0.5).tolist()) == sorted(kept)


box = st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 20)] * 2, st.integers(1, 99), st.integers(0, 2))


@settings(max_examples=150, deadline=None)
@given(st.lists(box, min_size=1, max_size=14), st.sampled_from([0.1, 0.45, 0.5, 0.9]))
def test_small_integer_boxes_equal_brute_force(rows: list[tuple[int, ...]], iou: float) -> None:
    table = np.array(rows, np.float32)
    xyxy = np.concatenate((table[:, :2], table[:, :2] + table[:, 2:4]), 1)
    scores, class_ids = table[:, 4] / 100, table[:, 5].astype(np.int64)
    assert suppressed(xyxy, scores, class_ids, iou).tolist() == brute_force(xyxy, scores, class_ids, iou)
