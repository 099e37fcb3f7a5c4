# SPDX-License-Identifier: Apache-2.0
"""YOLOX, NanoDet, the transformers and score maps against plain Python that reads the same outputs cell by cell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.detectors.adapter import Limits
from pipeline.detectors.adapters import ADAPTERS, Heatmap, Nanodet, Queries, Rtdetr, Yolox
from pipeline.detectors.adapters.grid import cells, grid, strides_of
from pipeline.errors import InferenceError
from pipeline.frame import InputSpec
from tests.plain import Row, assert_same, corners, greedy

SPEC = InputSpec(96, 160)
BAD = [math.nan, math.inf, -math.inf]


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def cell_list(strides: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Column, row and stride of every cell, as the heads number them."""
    return [
        (x, y, stride)
        for stride in strides
        for y in range(math.ceil(SPEC.height / stride))
        for x in range(math.ceil(SPEC.width / stride))
    ]


@pytest.mark.parametrize("strides", [(8, 16, 32), (8, 16, 32, 64)])
def test_the_grid_is_numbered_level_by_level_and_row_by_row(strides: tuple[int, ...]) -> None:
    expected = cell_list(strides)
    np.testing.assert_array_equal(grid(SPEC.height, SPEC.width, strides), expected)
    assert cells(SPEC.height, SPEC.width, strides) == len(expected)
    assert strides_of(len(expected), SPEC) == strides
    assert strides_of(len(expected) + 1, SPEC) is None


def yolox_output(classes: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = len(cell_list((8, 16, 32)))
    raw = np.concatenate((rng.normal(0.5, 0.6, (2, rows, 2)), rng.normal(0.8, 0.6, (2, rows, 2))), 2)
    return np.concatenate((raw, rng.uniform(0, 1, (2, rows, 1 + classes)) ** 2), 2).astype(np.float32)


@pytest.mark.parametrize("decoded", [False, True], ids=["raw", "decoded"])
@pytest.mark.parametrize("classes", [1, 4])
def test_yolox(classes: int, decoded: bool) -> None:
    raw = yolox_output(classes)
    given, expected = raw.copy(), []
    for picture, rows in zip(given, raw, strict=True):
        found: list[Row] = []
        for row, out, (x, y, stride) in zip(rows.tolist(), picture, cell_list((8, 16, 32)), strict=True):
            cx, cy = (row[0] + x) * stride, (row[1] + y) * stride
            w, h = math.exp(row[2]) * stride, math.exp(row[3]) * stride
            if decoded:
                out[:4] = (cx, cy, w, h)
            best = max(range(classes), key=lambda c, row=row: row[5 + c])
            if row[4] * row[5 + best] >= 0.35:
                found.append((*corners(cx, cy, w, h), row[4] * row[5 + best], best))
        expected.append(greedy(found, 0.5))
    assert sum(map(len, expected)) > 20
    outputs = torch.from_numpy(given)
    adapter = ADAPTERS["yolox"].make(outputs, SPEC, {})
    assert adapter == Yolox(classes, decoded), "which of the two it is can be seen"
    adapter.check(outputs, 2)
    for found_, rows_ in zip(adapter.parse(outputs, 2, Limits(0.35, 0.5), SPEC).detections, expected, strict=True):
        assert_same(found_, rows_)


def test_yolox_of_a_trimmed_input_has_the_cells_of_that_input() -> None:
    small = InputSpec(64, 160)
    rows = cells(64, 160, (8, 16, 32))
    output = torch.zeros(1, rows, 6)
    output[0, 20 * 8 + 3, 4:] = 1.0  # first cell of the second level is number 160: this is column 3 of its row 0
    found = Yolox(1, decoded=False).parse(output, 1, Limits(0.5), small).detections[0]
    assert found.xyxy.tolist() == [[3 * 16 - 8, -8, 3 * 16 + 8, 8]]
    with pytest.raises(InferenceError, match="an input of 160x96 has 315 cells"):
        Yolox(1, decoded=False).parse(output, 1, Limits(0.5), SPEC)


@pytest.mark.parametrize("decoded", [False, True], ids=["raw", "decoded"])
@pytest.mark.parametrize("bad", BAD)
def test_yolox_that_is_not_finite(bad: float, decoded: bool) -> None:
    output = torch.zeros(2, cells(96, 160, (8, 16, 32)), 6)
    output[:, 0] = torch.tensor([20.0, 20.0, 10.0, 10.0, 0.9, 1.0]) if decoded else torch.tensor([0, 0, 0, 0, 0.9, 1.0])
    output[:, 1] = torch.tensor([20.0, bad, 10.0, 10.0, 0.95, 1.0])
    output[:, 2] = torch.tensor([20.0, 20.0, 10.0, 10.0, bad, 1.0])
    if not decoded:
        output[:, 3] = torch.tensor([0, 0, 1e4, 0, 0.9, 1.0])  # exp overflows
    parsed = Yolox(1, decoded).parse(output, 2, Limits(0.5), SPEC)
    assert parsed.nonfinite == [(1 if bad == -math.inf else 2) + (not decoded)] * 2
    assert [len(each) for each in parsed.detections] == [1, 1]


@pytest.mark.parametrize("applied", [False, True], ids=["logits", "sigmoid done"])
@pytest.mark.parametrize(("classes", "reg_max"), [(3, 7), (1, 4)])
def test_nanodet(classes: int, reg_max: int, applied: bool) -> None:
    rng = np.random.default_rng(4)
    strides = (8, 16, 32, 64)
    rows = len(cell_list(strides))
    logits = rng.normal(-2.5, 1.6, (2, rows, classes))
    output = np.concatenate((logits, rng.normal(0, 2, (2, rows, 4 * (reg_max + 1)))), 2).astype(np.float32)
    expected = []
    for picture in output.tolist():
        found: list[Row] = []
        for row, (x, y, stride) in zip(picture, cell_list(strides), strict=True):
            sides = []
            for side in range(4):
                bins = row[classes + side * (reg_max + 1) : classes + (side + 1) * (reg_max + 1)]
                weights = [math.exp(value) for value in bins]
                sides.append(sum(k * w for k, w in enumerate(weights)) / sum(weights) * stride)
            box = (x * stride - sides[0], y * stride - sides[1], x * stride + sides[2], y * stride + sides[3])
            box = tuple(min(max(v, 0.0), limit) for v, limit in zip(box, (160.0, 96.0) * 2, strict=True))
            for class_id in range(classes):
                if sigmoid(row[class_id]) >= 0.3:
                    found.append((*box, sigmoid(row[class_id]), class_id))
        expected.append(greedy([row for row in found if row[2] > row[0] and row[3] > row[1]], 0.6))
    assert sum(map(len, expected)) > 10
    given = torch.from_numpy(output.copy())
    if applied:
        given[..., :classes] = given[..., :classes].sigmoid()
    adapter = ADAPTERS["nanodet"].make(given, SPEC, {"reg_max": reg_max})
    assert adapter == Nanodet(classes, strides, reg_max, logits=not applied)
    adapter.check(given, 2)
    for found_, rows_ in zip(adapter.parse(given, 2, Limits(0.3, 0.6), SPEC).detections, expected, strict=True):
        assert_same(found_, rows_)


@pytest.mark.parametrize("bad", BAD)
def test_nanodet_that_is_not_finite(bad: float) -> None:
    strides = (8, 16, 32, 64)
    output = torch.full((1, cells(96, 160, strides), 1 + 32), -9.0)
    good, bad_score, bad_side = 21 + 3, 45, 80
    output[0, [good, bad_score, bad_side], 0] = torch.tensor([2.0, bad, 3.0])
    output[0, bad_side, 5] = bad
    parsed = Nanodet(1).parse(output, 1, Limits(0.5), SPEC)
    # A distribution with one bin at minus infinity is a distribution; a score of minus infinity is a low one.
    assert parsed.nonfinite == [0 if bad == -math.inf else 2]
    assert len(parsed.detections[0]) == (2 if bad == -math.inf else 1)


def test_nanodet_thresholds_at_the_ends() -> None:
    output = torch.full((1, cells(96, 160, (8, 16, 32, 64)), 33), 0.0)
    output[0, 30, 0] = 200.0
    assert len(Nanodet(1).parse(output, 1, Limits(0.0, max_detections=9), SPEC).detections[0]) == 9
    assert len(Nanodet(1).parse(output, 1, Limits(1.0), SPEC).detections[0]) == 1, "a score of exactly 1"


def query_outputs(channels: int, seed: int = 0, spread: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    boxes = np.concatenate((rng.uniform(0.2, 0.8, (2, 50, 2)), rng.uniform(0.05, 0.4, (2, 50, 2))), 2)
    logits = rng.normal(-2, spread, (2, 50, channels))
    return torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(logits.astype(np.float32))


WRAPPED = {
    "boxes first": lambda boxes, logits: (boxes, logits),
    "logits first": lambda boxes, logits: (logits, boxes),
    "list": lambda boxes, logits: [boxes, logits],
    "with masks": lambda boxes, logits: (boxes, logits, torch.zeros(2, 50, 8, 8)),
    "dict": lambda boxes, logits: {"pred_logits": logits, "pred_boxes": boxes},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("name", ["rfdetr", "detr"])
def test_boxes_and_logits(name: str, wrap: Any) -> None:
    boxes, logits = query_outputs(6)
    expected = []
    for picture_boxes, picture_logits in zip(boxes.tolist(), logits.tolist(), strict=True):
        found: list[Row] = []
        for (cx, cy, w, h), values in zip(picture_boxes, picture_logits, strict=True):
            box = corners(cx * 160, cy * 96, w * 160, h * 96)
            if name == "rfdetr":
                found += [(*box, sigmoid(v), c) for c, v in enumerate(values) if sigmoid(v) >= 0.6]
            else:
                total = sum(math.exp(v) for v in values)
                best = max(range(5), key=lambda c, values=values: values[c])
                if math.exp(values[best]) / total >= 0.6:
                    found.append((*box, math.exp(values[best]) / total, best))
        expected.append(sorted(found, key=lambda row: -row[4]))
    assert sum(map(len, expected)) > 10
    outputs = wrap(boxes, logits)
    adapter = ADAPTERS[name].make(outputs, SPEC, {})
    assert isinstance(adapter, Queries)
    assert adapter.classes == (6 if name == "rfdetr" else 5)
    adapter.check(outputs, 2)
    for found_, rows in zip(adapter.parse(outputs, 2, Limits(0.6), SPEC).detections, expected, strict=True):
        assert_same(found_, rows)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["rfdetr", "detr"])
def test_boxes_and_logits_that_are_not_finite(name: str, bad: float) -> None:
    boxes, logits = torch.full((1, 4, 4), 0.5), torch.full((1, 4, 3), -9.0)
    logits[0, :3, 0] = 9.0
    boxes[0, 1, 2] = bad
    logits[0, 2, 1] = bad
    outputs = (boxes, logits)
    parsed = ADAPTERS[name].make(outputs, SPEC, {}).parse(outputs, 1, Limits(0.5), SPEC)
    if bad == -math.inf:  # a logit of minus infinity means "certainly not"
        assert parsed.nonfinite == [1]
        assert len(parsed.detections[0]) == 2
    else:
        # It makes NaN of all probabilities of a softmax, but of one probability of a sigmoid only.
        assert parsed.nonfinite == [2]
        assert parsed.detections[0].class_id.tolist() == ([0, 0] if name == "rfdetr" else [0])


def test_coco_numbers_by_the_number_of_classes() -> None:
    assert Queries(91, "sigmoid", "rfdetr").first_class == 1
    assert Queries(80, "sigmoid", "rfdetr").first_class == 0


@pytest.mark.parametrize("normalised", [False, True])
def test_rtdetr(normalised: bool) -> None:
    rng = np.random.default_rng(1)
    boxes, _ = query_outputs(1)
    pixels = boxes.numpy() * np.array([160, 96, 160, 96], np.float32)
    labels, scores = rng.integers(0, 80, (2, 50)), rng.uniform(0, 1, (2, 50)).astype(np.float32)
    expected = []
    for picture in range(2):
        found: list[Row] = []
        for query in range(50):
            if scores[picture, query] >= 0.5:
                box = corners(*map(float, pixels[picture, query]))
                found.append((*box, float(scores[picture, query]), int(labels[picture, query])))
        expected.append(sorted(found, key=lambda row: -row[4]))
    half = boxes[..., 2:] / 2
    xyxy = torch.cat((boxes[..., :2] - half, boxes[..., :2] + half), 2)
    unit = 1.0 if normalised else torch.tensor([160.0, 96.0, 160.0, 96.0])
    outputs = (torch.from_numpy(labels), xyxy * unit, torch.from_numpy(scores))
    adapter = ADAPTERS["rtdetr"].make(outputs, SPEC, {})
    assert adapter == Rtdetr(normalised)
    adapter.check(outputs, 2)
    for found_, rows in zip(adapter.parse(outputs, 2, Limits(0.5), SPEC).detections, expected, strict=True):
        assert_same(found_, rows)


@pytest.mark.parametrize("bad", BAD)
def test_rtdetr_that_is_not_finite(bad: float) -> None:
    scores = torch.tensor([[0.9, 0.9, bad]])
    boxes = torch.tensor([[[0.0, 0, 9, 9], [bad, 0, 9, 9], [0, 0, 9, 9]]])
    parsed = Rtdetr().parse((torch.zeros(1, 3, dtype=torch.int64), boxes, scores), 1, Limits(0.5), SPEC)
    assert parsed.nonfinite == [1 if bad == -math.inf else 2]
    assert parsed.detections[0].xyxy.tolist() == [[0, 0, 9, 9]]


def neighbours(row: int, column: int, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    around = [(row + dy, column + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
    return [(y, x) for y, x in around if 0 <= y < shape[0] and 0 <= x < shape[1]]


def flood(scores: np.ndarray, threshold: float) -> list[Row]:
    """Regions of touching cells, by walking from cell to cell; a cell is 8 x 8 pixels."""
    left = {(y, x) for y, x in np.ndindex(*scores.shape) if scores[y, x] >= threshold}
    found: list[Row] = []
    while left:
        open_, region = [left.pop()], []
        while open_:
            here = open_.pop()
            region.append(here)
            for near in neighbours(*here, scores.shape):
                if near in left:
                    left.remove(near)
                    open_.append(near)
        rows, columns = [y for y, _ in region], [x for _, x in region]
        box = (8.0 * min(columns), 8.0 * min(rows), 8.0 * max(columns) + 8, 8.0 * max(rows) + 8)
        found.append((*box, float(max(scores[cell] for cell in region)), 0))
    return sorted(found, key=lambda row: -row[4])


def peaks(scores: np.ndarray, threshold: float, width: float, height: float) -> list[Row]:
    found: list[Row] = []
    for y, x in np.ndindex(*scores.shape):
        if scores[y, x] >= threshold and all(scores[y, x] >= scores[near] for near in neighbours(y, x, scores.shape)):
            found.append((*corners(8.0 * x + 4, 8.0 * y + 4, width, height), float(scores[y, x]), 0))
    return greedy(found, 0.5)


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("box", [None, [24, 40]], ids=["regions", "peaks"])
def test_score_maps(box: list[int] | None, logits: bool) -> None:
    values = np.random.default_rng(2).normal(-2.0, 2.0, (2, 1, 12, 20)).astype(np.float32)
    scores = torch.from_numpy(values).sigmoid().numpy()
    outputs = torch.from_numpy(values if logits else scores)
    adapter = ADAPTERS["heatmap"].make(outputs, SPEC, {} if box is None else {"box": box})
    assert adapter == Heatmap(None if box is None else (24.0, 40.0), logits)
    adapter.check(outputs, 2)
    for found, map_ in zip(adapter.parse(outputs, 2, Limits(0.6, 0.5), SPEC).detections, scores[:, 0], strict=True):
        expected = flood(map_, 0.6) if box is None else peaks(map_, 0.6, 24.0, 40.0)
        assert len(expected) > 5
        assert_same(found, expected)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("box", [None, (8.0, 8.0)], ids=["regions", "peaks"])
def test_score_maps_that_are_not_finite(box: tuple[float, float] | None, bad: float) -> None:
    output = torch.zeros(2, 1, 12, 20)
    output[0, 0, 3, 4] = 0.9
    output[:, 0, 9, 9] = bad
    parsed = Heatmap(box).parse(output, 2, Limits(0.5), SPEC)
    assert parsed.nonfinite == [1, 1]
    assert parsed.detections[0].xyxy.tolist() == [[32.0, 24.0, 40.0, 32.0]]
    assert len(parsed.detections[1]) == 0


@pytest.mark.parametrize("name", ["yolox", "nanodet", "rfdetr", "detr", "rtdetr", "heatmap"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_and_padding_pictures(name: str, dtype: torch.dtype) -> None:
    """Two pictures of four count; the last two, which only fill the batch, are full of NaN."""
    outputs: Any
    if name == "heatmap":
        outputs = torch.full((4, 1, 12, 20), 0.1, dtype=dtype)
        outputs[:2, 0, 5, 5] = 0.75
    elif name in ("rfdetr", "detr"):
        outputs = (torch.full((4, 3, 4), 0.5, dtype=dtype), torch.full((4, 3, 2), -8.0, dtype=dtype))
        outputs[1][:2, 1, 0] = 8.0
        outputs[1][:2, [0, 2], 1] = 8.0 if name == "detr" else -8.0
    elif name == "rtdetr":
        outputs = (torch.zeros(4, 3).long(), torch.ones(4, 3, 4, dtype=dtype), torch.zeros(4, 3, dtype=dtype))
        outputs[1][..., 2:] = 9.0
        outputs[2][:2, 1] = 0.75
    else:
        rows, channels = cells(96, 160, (8, 16, 32)), 6 if name == "yolox" else 33
        outputs = torch.full((4, rows, channels), 0.0 if name == "yolox" else -8.0, dtype=dtype)
        outputs[:2, 40, : 6 if name == "yolox" else 1] = 1.0
    for each in outputs if isinstance(outputs, tuple) else (outputs,):
        if each.is_floating_point():
            each[2:] = math.nan
    adapter = ADAPTERS[name].make(outputs, SPEC, {})
    adapter.check(outputs, 4)
    parsed = adapter.parse(outputs, 2, Limits(0.5), SPEC)
    assert [len(found) for found in parsed.detections] == [1, 1]
    assert parsed.nonfinite == [0, 0]
    with pytest.raises(InferenceError, match="was expected"):
        adapter.check(outputs, 3)


@pytest.mark.parametrize(
    ("name", "outputs", "options", "error", "said"),
    [
        ("yolox", torch.zeros(1, 300, 85), {}, InferenceError, "one row per cell of strides 8, 16, 32"),
        ("nanodet", torch.zeros(1, 315, 32), {}, InferenceError, r"\(B, cells, classes \+ 32\)"),
        ("rtdetr", torch.zeros(1, 315, 32), {}, InferenceError, "labels"),
        ("rfdetr", (torch.zeros(1, 9, 5), torch.zeros(1, 9, 6)), {}, InferenceError, "pred_boxes and pred_logits"),
        ("detr", {"pred_boxes": torch.zeros(1, 9, 4)}, {}, InferenceError, "pred_boxes and pred_logits"),
        ("heatmap", torch.zeros(1, 12, 20), {}, InferenceError, r"\(B, 1, rows, columns\)"),
        ("heatmap", torch.zeros(1, 1, 12, 20), {"box": [1, 0]}, ValueError, r"adapter_options\.box: \[1, 0\]"),
        ("heatmap", torch.zeros(1, 1, 12, 20), {"boxes": 3}, ValueError, "boxes: there is no such option"),
        ("heatmap", torch.zeros(1, 1, 12, 20), {"logits": 1}, ValueError, "true or false was expected"),
        ("nanodet", torch.zeros(1, 315, 40), {"reg_max": 0}, ValueError, r"adapter_options\.reg_max: 0"),
        ("rows", torch.zeros(1, 3, 6), {"box": 3}, ValueError, "it takes normalised"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, outputs: Any, options: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        ADAPTERS[name].make(outputs, SPEC, options)
