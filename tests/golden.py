# SPDX-License-Identifier: Apache-2.0
"""Comparing a detector with what another implementation makes of the same pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.frame import Detections, InputSpec, Uint8Array


def assert_equal(found: Detections, boxes: Any, scores: Any, class_ids: Any, *, atol: float = 1e-2) -> None:
    """The same detections; of nearly equal confidences the order may differ."""
    columns = ((boxes, 4), (scores, 1), (class_ids, 1))
    expected = np.concatenate([np.asarray(each, np.float64).reshape(-1, width) for each, width in columns], axis=1)
    ours = np.concatenate((found.xyxy, found.confidence[:, None], found.class_id[:, None]), axis=1).astype(np.float64)
    assert len(ours) == len(expected)
    for class_id in np.unique(expected[:, 5]):
        mine, theirs = (rows[rows[:, 5] == class_id] for rows in (ours, expected))
        assert len(mine) == len(theirs), f"of class {class_id}"
        left = list(range(len(theirs)))
        for row in mine:
            nearest = min(left, key=lambda index, row=row: float(np.abs(theirs[index, :5] - row[:5]).max()))
            np.testing.assert_allclose(row[4], theirs[nearest, 4], atol=1e-4)
            np.testing.assert_allclose(row[:4], theirs[nearest, :4], atol=atol, rtol=1e-4)
            left.remove(nearest)


def scene(spec: InputSpec, seed: int) -> Uint8Array:
    """A picture (height, width, 3) of many coloured blocks under some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = -(-spec.height // 8), -(-spec.width // 8)
    blocks = np.kron(rng.integers(0, 230, (rows, columns, 3)), np.ones((8, 8, 1), np.int64))
    blocks = blocks[: spec.height, : spec.width] + rng.integers(0, 25, spec.shape)
    picture: Uint8Array = blocks.astype(np.uint8)
    return picture


def threshold_for(scores: Any, count: int) -> float:
    """A confidence that about ``count`` of ``scores`` reach, half way between two of them."""
    ranked = np.sort(np.asarray(scores, np.float64).ravel())[::-1]
    return float(ranked[count - 1 : count + 1].mean())
