# SPDX-License-Identifier: Apache-2.0
"""The people detector on the real clip: the camera is fixed, so the difference from the empty room shows the people."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline.detectors.people import INPUT_HEIGHT, INPUT_WIDTH, build_people, decode_people

FOOTAGE = Path(__file__).parents[3] / "shared" / "footage" / "one-by-one-person-detection.mp4"
EVERY = 41
EMPTY = 41  # nobody is in the room up to this frame


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """Every 41st frame, BGR, at the size of the detector's input."""
    if not FOOTAGE.exists():
        pytest.skip(f"the real clip is not here: {FOOTAGE.name}")
    capture = cv2.VideoCapture(str(FOOTAGE))
    found = []
    for number in range(int(capture.get(cv2.CAP_PROP_FRAME_COUNT))):
        assert capture.grab()
        if number % EVERY == 0:
            found.append(cv2.resize(capture.retrieve()[1], (INPUT_WIDTH, INPUT_HEIGHT)))
    return found


def silhouettes(frames: list[np.ndarray]) -> list[np.ndarray | None]:
    """xyxy of the one person in each frame, or None."""
    room = np.median(np.stack(frames[: EMPTY // EVERY + 1]), 0)
    boxes: list[np.ndarray | None] = []
    for frame in frames:
        mask = (np.abs(frame - room).max(2) > 38).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8))
        _, _, facts, _ = cv2.connectedComponentsWithStats(mask)
        left, top, width, height, area = max(facts[1:], key=lambda row: row[4], default=np.zeros(5))
        boxes.append(np.array([left, top, left + width, top + height]) if area > 2500 else None)
    return boxes


def iou(first: np.ndarray, second: np.ndarray) -> float:
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    shared = np.clip(high - low, 0, None).prod()
    return float(shared / ((first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - shared))


@pytest.mark.slow  # tests/integration/test_accuracy.py says how many are found, on clips whose truth is known
def test_people_who_nearly_fill_the_picture_are_found_tightly(frames: list[np.ndarray]) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    model = build_people()
    corner = np.array([INPUT_WIDTH, INPUT_HEIGHT] * 2)
    wanted, hits, false_alarms, quality = 0, 0, 0, []
    for frame, person in zip(frames, silhouettes(frames), strict=True):
        with torch.inference_mode():
            rows = model(torch.from_numpy(np.ascontiguousarray(frame[:, :, ::-1])).permute(2, 0, 1)[None])
        (found,) = decode_people(rows, 0.4, 0.5)
        boxes = np.clip(found[:, :4], 0, corner)
        # People on their way in or out, cut off at the sides or below, may be found or not.
        whole = person is not None and person[0] > 2 and (person[2:] < corner[:2] - 2).all()
        overlaps = [iou(box, person) for box in boxes] if person is not None else []
        best = max(overlaps, default=0.0)
        if whole:
            wanted += 1
            hits += best >= 0.5
            quality += [best] if best >= 0.5 else []
        false_alarms += len(boxes) - (best >= 0.5)
    assert wanted >= 20
    assert hits >= 0.7 * wanted, f"{hits} of {wanted}"
    assert false_alarms <= 0.35 * hits, f"{false_alarms} false, {hits} hits"
    assert np.mean(quality) >= 0.8
