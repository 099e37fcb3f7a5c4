# SPDX-License-Identifier: Apache-2.0
"""Every adapter against plain Python that reads the same outputs one number at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.detectors.adapter import Limits, describe
from pipeline.detectors.adapters import Rows, Torchvision, Ultralytics, Yolov5
from pipeline.errors import InferenceError
from pipeline.frame import InputSpec
from tests.plain import Row, assert_same, corners, greedy

SPEC = InputSpec(192, 320)


def dense_output(pictures: int, classes: int, anchors: int, seed: int) -> np.ndarray:
    """(B, A, 4 + classes): crowded boxes and scores that are mostly low."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(40, 280, (pictures, anchors, 2))
    size = rng.uniform(30, 90, (pictures, anchors, 2))
    scores = rng.uniform(0, 1, (pictures, anchors, classes)) ** 4
    return np.concatenate((centre, size, scores), 2).astype(np.float32)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize(("classes", "anchors"), [(1, 40), (3, 200), (80, 300)])
def test_ultralytics_equals_reading_anchor_by_anchor(classes: int, anchors: int, normalised: bool) -> None:
    data = dense_output(3, classes, anchors, seed=classes)
    expected = []
    for picture in data:
        rows = []
        for anchor in picture:
            best = max(range(classes), key=lambda c, anchor=anchor: anchor[4 + c])
            if anchor[4 + best] >= np.float32(0.5):
                rows.append((*corners(*map(float, anchor[:4])), float(anchor[4 + best]), best))
        expected.append(greedy(rows, 0.45))
    assert sum(map(len, expected)) > 10
    unit = (320.0, 192.0) if normalised else (1.0, 1.0)
    scale = np.array([*unit, *unit, *[1.0] * classes], np.float32)
    output = torch.from_numpy((data / scale).transpose(0, 2, 1).copy())
    adapter = Ultralytics(classes, normalised)
    adapter.check(output, 3)
    parsed = adapter.parse(output, 3, Limits(0.5, 0.45), SPEC)
    assert parsed.nonfinite == [0, 0, 0]
    for found, rows in zip(parsed.detections, expected, strict=True):
        assert_same(found, rows)


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: (t, [t]), lambda t: [t]], ids=["tensor", "tuple", "list"])
def test_yolov5_multiplies_objectness_and_class(wrap: Any) -> None:
    classes, anchors = 3, 250
    data = dense_output(2, classes, anchors, seed=9)
    objectness = np.random.default_rng(3).uniform(0, 1, (2, anchors, 1)).astype(np.float32)
    output = np.concatenate((data[..., :4], objectness, np.sqrt(data[..., 4:])), 2)
    expected = []
    for picture in output:
        rows = []
        for anchor in picture:
            best = max(range(classes), key=lambda c, anchor=anchor: anchor[5 + c])
            score = anchor[4] * anchor[5 + best]
            if score >= np.float32(0.3):
                rows.append((*corners(*map(float, anchor[:4])), float(score), best))
        expected.append(greedy(rows, 0.6))
    assert sum(map(len, expected)) > 10
    outputs = wrap(torch.from_numpy(output))
    adapter = Yolov5(classes)
    adapter.check(outputs, 2)
    for found, rows in zip(adapter.parse(outputs, 2, Limits(0.3, 0.6), SPEC).detections, expected, strict=True):
        assert_same(found, rows)


def test_rows_are_taken_as_they_are_without_their_padding() -> None:
    output = torch.zeros(2, 5, 6)
    output[0, 0] = torch.tensor([10.0, 20.0, 30.0, 60.0, 0.9, 2.0])
    output[0, 1] = torch.tensor([11.0, 20.0, 31.0, 60.0, 0.8, 2.0])  # overlaps: the network has decided already
    output[0, 2] = torch.tensor([1.0, 2.0, 3.0, 4.0, 0.1, 0.0])
    parsed = Rows().parse(output, 2, Limits(0.25, 0.5), SPEC)
    assert_same(parsed.detections[0], [(10, 20, 30, 60, 0.9, 2), (11, 20, 31, 60, 0.8, 2)])
    assert len(parsed.detections[1]) == 0
    assert len(Rows().parse(output, 2, Limits(0.0, 0.5), SPEC).detections[1]) == 0, (
        "padding is no detection at any threshold"
    )
    scaled = Rows(normalised=True).parse(output, 1, Limits(0.85, 0.5), InputSpec(3, 2))
    assert_same(scaled.detections[0], [(20, 60, 60, 180, 0.9, 2)])


def test_rows_with_impossible_class_ids_are_counted() -> None:
    output = torch.tensor([[[1.0, 1, 9, 9, 0.9, -3.0], [1, 1, 9, 9, 0.8, 1e12], [1, 1, 9, 9, 0.7, 65535.0]]])
    parsed = Rows().parse(output, 1, Limits(0.5, 0.5), SPEC)
    assert parsed.nonfinite == [2]
    assert parsed.detections[0].class_id.tolist() == [65535]


def torchvision_found(*rows: Row) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor([row[:4] for row in rows]).reshape(-1, 4),
        "scores": torch.tensor([row[4] for row in rows]),
        "labels": torch.tensor([row[5] for row in rows], dtype=torch.int64),
    }


@pytest.mark.parametrize("scripted", [True, False], ids=["scripted", "eager"])
def test_torchvision_dicts(scripted: bool) -> None:
    pictures = [torchvision_found((1, 2, 30, 40, 0.95, 1), (5, 6, 9, 9, 0.2, 90)), torchvision_found()]
    outputs = ({}, pictures) if scripted else pictures
    adapter = Torchvision()
    adapter.check(outputs, 2)
    parsed = adapter.parse(outputs, 2, Limits(0.25, 0.5), SPEC)
    assert_same(parsed.detections[0], [(1, 2, 30, 40, 0.95, 1)])
    assert len(parsed.detections[1]) == 0


@pytest.mark.parametrize("layout", ["ultralytics", "yolov5", "rows", "torchvision"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_neither_hide_nor_displace_others(layout: str, bad: float) -> None:
    """One good detection per picture; around it rows with a bad box or a bad score, which would win if ranked."""
    limits = Limits(0.5, 0.5)
    if layout == "torchvision":
        good = (10.0, 10.0, 50.0, 50.0, 0.9, 3)
        outputs: Any = [torchvision_found((bad, 10, 50, 50, 0.95, 3), good, (10, 10, 50, 50, bad, 3))] * 2
        parsed = Torchvision().parse(outputs, 2, limits, SPEC)
        removed = [2, 2]
    elif layout == "rows":
        rows = [[10, 10, 50, 50, bad, 3], [10, bad, 50, 50, 0.95, 3], [10, 10, 50, 50, 0.9, 3], [0] * 6]
        parsed = Rows().parse(torch.tensor([rows, rows], dtype=torch.float32), 2, limits, SPEC)
        removed = [2, 2]
    else:
        columns = [30.0, 30.0, 40.0, 40.0] + ([0.9] if layout == "yolov5" else [])
        good_row = torch.tensor([*columns, 0.0, 0.0, 0.0, 1.0 if layout == "yolov5" else 0.9])
        bad_box, bad_score = good_row.clone(), good_row.clone()
        bad_box[1] = bad
        bad_score[4] = bad
        output = torch.stack((bad_score, bad_box, good_row)).expand(2, 3, len(good_row)).contiguous()
        if layout == "yolov5":
            parsed = Yolov5(4).parse(output, 2, limits, SPEC)
            removed = [1, 1] if bad == -math.inf else [2, 2]  # an objectness of -inf is simply low
        else:
            parsed = Ultralytics(4).parse(output.transpose(1, 2).contiguous(), 2, limits, SPEC)
            # -inf is not the highest class score, so that row is a good one in the same place
            removed = [1, 1] if bad == -math.inf else [2, 2]
    assert parsed.nonfinite == removed
    for found in parsed.detections:
        assert_same(found, [(10, 10, 50, 50, 0.9, 3)])


def test_all_nan_gives_no_detections_and_counts_every_row() -> None:
    parsed = Ultralytics(2).parse(torch.full((2, 6, 50), math.nan), 2, Limits(), SPEC)
    assert [len(found) for found in parsed.detections] == [0, 0]
    assert parsed.nonfinite == [50, 50]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_outputs_of_other_precisions_are_read(dtype: torch.dtype) -> None:
    output = torch.tensor([[[64.0], [64.0], [32.0], [16.0], [0.75], [0.25]]], dtype=dtype)
    found = Ultralytics(2).parse(output, 1, Limits(), SPEC).detections[0]
    assert_same(found, [(48, 56, 80, 72, 0.75, 0)])


def test_padding_pictures_are_not_parsed() -> None:
    output = torch.tensor([[[64.0], [64.0], [32.0], [16.0], [0.75]]]).repeat(4, 1, 1)
    output[2:] = math.nan
    parsed = Ultralytics(1).parse(output, 2, Limits(), SPEC)
    assert [len(found) for found in parsed.detections] == [1, 1]
    assert parsed.nonfinite == [0, 0]


@pytest.mark.parametrize(
    ("adapter", "outputs", "expected"),
    [
        (Ultralytics(80), torch.zeros(1, 84, 10), "(2, 84, anchors)"),
        (Ultralytics(80), torch.zeros(2, 85, 10), "(2, 84, anchors)"),
        (Ultralytics(80), {"boxes": torch.zeros(2, 4)}, "(2, 84, anchors)"),
        (Yolov5(80), (torch.zeros(3, 10, 85),), "(2, anchors, 85)"),
        (Rows(), torch.zeros(2, 6), "(2, rows, 6)"),
        (Rows(), [], "(2, rows, 6)"),
        (Torchvision(), ({}, []), "list of 2 dicts"),
        (Torchvision(), torch.zeros(2, 6), "list of 2 dicts"),
        (Torchvision(), [{"boxes": 1}, {}], "list of 2 dicts"),
        (Torchvision(), [torchvision_found(), {**torchvision_found(), "scores": torch.zeros(3)}], "boxes (n, 4)"),
    ],
)
def test_wrong_outputs_are_refused_with_both_shapes(adapter: Any, outputs: Any, expected: str) -> None:
    with pytest.raises(InferenceError) as error:
        adapter.check(outputs, 2)
    assert expected in str(error.value)
    assert describe(outputs) in str(error.value) or "boxes" in str(error.value)
    assert "\n" not in str(error.value)


def test_describe_names_shapes_inside_containers() -> None:
    assert describe(torch.zeros(1, 84, 2)) == "(1, 84, 2) float32"
    assert describe((torch.zeros(1), {"a": 3})) == "tuple of 2 [(1,) float32, dict {a: int}]"
    one = "(1,) float32"
    assert describe([torch.zeros(1)] * 6) == f"list of 6 [{one}, {one}, {one}, {one}, ...]"
