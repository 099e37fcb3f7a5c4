# SPDX-License-Identifier: Apache-2.0
"""Agreement of two detectors: matching by hand, average precision against pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from pipeline.detectors.agreement import agreement
from pipeline.frame import Detections


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """x1, y1, x2, y2, confidence, class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


BOX = (10.0, 10.0, 50.0, 50.0, 0.9, 0)


def test_the_same_detections_agree_wholly() -> None:
    frames = [found(BOX, (60, 60, 90, 90, 0.5, 1)), found()]
    result = agreement(frames, frames)
    assert result.matched == {0.9: 1.0, 0.75: 1.0, 0.5: 1.0}
    assert (result.map50, result.map, result.worst(3)) == (1.0, 1.0, [])


def test_the_threshold_is_an_iou_and_the_share_is_of_the_larger_count() -> None:
    moved = (10.0, 10.0, 50.0, 42.0, 0.8, 0)  # IoU with BOX is 32 / 40 = 0.8
    result = agreement([found(BOX)], [found(moved, (200, 200, 210, 210, 0.7, 0))])
    assert result.matched == {0.9: 0.0, 0.75: 0.5, 0.5: 0.5}
    assert (result.count_a, result.count_b) == (1, 2)


def test_another_class_or_another_frame_is_no_match() -> None:
    assert agreement([found(BOX)], [found((*BOX[:5], 1))]).matched[0.5] == 0.0
    assert agreement([found(BOX), found()], [found(), found(BOX)]).matched[0.5] == 0.0


def test_a_box_is_matched_once_and_with_the_nearest() -> None:
    near, far = (10.0, 10.0, 50.0, 49.0, 0.3, 0), (10.0, 10.0, 50.0, 35.0, 0.9, 0)
    result = agreement([found(BOX)], [found(far, near)])
    assert result.matched == {0.9: 0.5, 0.75: 0.5, 0.5: 0.5}


def test_worst_frames_come_first_and_per_class_figures_stand_alone() -> None:
    one = [found(BOX), found(BOX, (60, 60, 90, 90, 0.5, 1)), found(BOX)]
    other = [found(BOX), found(BOX), found()]
    result = agreement(one, other)
    assert result.worst(5) == [2, 1]
    assert result.worst(1) == [2]
    assert [(row.class_id, row.matched[0.75]) for row in result.classes] == [(0, 2 / 3), (1, 0.0)]
    assert result.as_dict({1: "van"})["classes"][1]["label"] == "van"


def test_nothing_found_by_both_is_agreement_without_precision() -> None:
    result = agreement([found()], [found()])
    assert (result.matched[0.9], result.map50, result.map) == (1.0, None, None)


def test_other_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="1 frames against 2"):
        agreement([found()], [found(), found()])


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, seen = zip(*[_scene(rng) for _ in range(12)], strict=True)
    result = agreement(truth, seen)
    expected = _coco(truth, seen)
    assert result.map == pytest.approx(expected[0], abs=1e-9)
    assert result.map50 == pytest.approx(expected[1], abs=1e-9)
    assert 0.05 < expected[0] < 0.95


def _scene(rng: np.random.Generator) -> tuple[Detections, Detections]:
    """True boxes, and found ones that are shifted, missed, doubled, misnamed or invented."""
    count = int(rng.integers(0, 12))
    corner = rng.uniform(0, 300, (count, 2))
    boxes = np.hstack([corner, corner + rng.uniform(20, 90, (count, 2))])
    classes = rng.integers(0, 3, count)
    keep = rng.random(count) < 0.85
    moved = boxes[keep] + rng.normal(0, 4, (int(keep.sum()), 4))
    wrong = np.where(rng.random(len(moved)) < 0.1, (classes[keep] + 1) % 3, classes[keep])
    doubled = moved[::3] + rng.normal(0, 3, moved[::3].shape)
    extra = np.hstack([corner[:2], corner[:2] + 30.0])
    everything = np.vstack([moved, doubled, extra])
    names = np.concatenate([wrong, wrong[::3], classes[:2]])
    truth = Detections(boxes.astype(np.float32), rng.random(count).astype(np.float32), classes.astype(np.int64))
    scores = rng.random(len(everything)).astype(np.float32)
    return truth, Detections(everything.astype(np.float32), scores, names.astype(np.int64))


def _coco(truth: tuple[Detections, ...], seen: tuple[Detections, ...]) -> tuple[float, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(frames: tuple[Detections, ...]) -> list[dict[str, object]]:
        listed: list[dict[str, object]] = []
        for image, frame in enumerate(frames, 1):
            for box, score, name in zip(frame.xyxy.tolist(), frame.confidence, frame.class_id, strict=True):
                x, y, right, bottom = box
                listed.append(
                    {
                        "id": len(listed) + 1,
                        "image_id": image,
                        "category_id": int(name) + 1,
                        "bbox": [x, y, right - x, bottom - y],
                        "area": (right - x) * (bottom - y),
                        "iscrowd": 0,
                        "score": float(score),
                    }
                )
        return listed

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in range(1, len(truth) + 1)],
            "categories": [{"id": name} for name in (1, 2, 3)],
            "annotations": rows(truth),
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(rows(seen)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])
