# SPDX-License-Identifier: Apache-2.0
"""Detections in plain Python, one number at a time: what the adapters are compared with."""

from __future__ import annotations

import numpy as np

from pipeline.frame import Detections

Row = tuple[float, float, float, float, float, int]
"""x1, y1, x2, y2, score, class id."""


def overlap(a: Row, b: Row) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def greedy(rows: list[Row], iou: float) -> list[Row]:
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: -row[4]):
        if all(row[5] != other[5] or overlap(row, other) <= iou for other in kept):
            kept.append(row)
    return kept


def corners(cx: float, cy: float, w: float, h: float) -> tuple[float, float, float, float]:
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def assert_same(found: Detections, expected: list[Row]) -> None:
    assert found.xyxy.dtype == np.float32
    assert found.confidence.dtype == np.float32
    assert found.class_id.dtype == np.int64
    assert found.class_id.tolist() == [row[5] for row in expected]
    np.testing.assert_allclose(found.confidence, [row[4] for row in expected], rtol=1e-6)
    np.testing.assert_allclose(found.xyxy, np.reshape([row[:4] for row in expected], (-1, 4)), atol=1e-3)
