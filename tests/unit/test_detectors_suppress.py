# SPDX-License-Identifier: Apache-2.0
"""What the limits keep: threshold, classes, number, order, boxes without area."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pipeline.detectors.adapter import Limits
from pipeline.detectors.loading import operators
from pipeline.detectors.loading.operators import suppress_operator
from pipeline.detectors.suppress import MAX_CANDIDATES, finish, suppressed
from pipeline.frame import Detections


def finished(rows: list[tuple[float, ...]], limits: Limits, *, overlap: bool = True) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return finish(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), limits, overlap=overlap)


APART = [(0.0, 0.0, 10.0, 10.0, 0.5, 0.0), (20.0, 0.0, 30.0, 10.0, 0.9, 1.0), (40.0, 0.0, 50.0, 10.0, 0.7, 2.0)]


def test_most_confident_first_and_equals_in_their_order() -> None:
    rows = [*APART, (60.0, 0.0, 70.0, 10.0, 0.7, 5.0)]
    assert finished(rows, Limits(0.1)).class_id.tolist() == [1, 2, 5, 0]
    assert finished(rows, Limits(0.1), overlap=False).class_id.tolist() == [1, 2, 5, 0]


def test_the_threshold_itself_is_kept() -> None:
    at = np.float32(0.4)
    rows = [(0.0, 0.0, 9.0, 9.0, float(at), 0.0), (20.0, 0.0, 30.0, 9.0, float(np.nextafter(at, np.float32(0))), 1.0)]
    assert finished(rows, Limits(0.4)).class_id.tolist() == [0]


@pytest.mark.parametrize(("classes", "kept"), [(None, [1, 2, 0]), ({0, 2}, [2, 0]), ({9}, []), (set(), [])])
def test_class_filter(classes: set[int] | None, kept: list[int]) -> None:
    limits = Limits(0.1, classes=None if classes is None else frozenset(classes))
    assert finished(APART, limits).class_id.tolist() == kept


def test_the_class_filter_comes_before_the_limit_on_the_number() -> None:
    limits = Limits(0.1, classes=frozenset({0}), max_detections=1)
    assert finished(APART, limits).class_id.tolist() == [0]


@pytest.mark.parametrize("overlap", [True, False])
def test_the_number_is_limited_to_the_most_confident(overlap: bool) -> None:
    assert finished(APART, Limits(0.1, max_detections=2), overlap=overlap).class_id.tolist() == [1, 2]


def test_suppressed_boxes_do_not_count_towards_the_limit() -> None:
    rows = [(0.0, 0.0, 10.0, 10.0, 0.9 - i / 100, 0.0) for i in range(5)] + [(20.0, 0.0, 30.0, 10.0, 0.5, 0.0)]
    assert len(finished(rows, Limits(0.1, max_detections=2))) == 2


def test_confidence_is_clamped_to_one() -> None:
    found = finished([(0.0, 0.0, 9.0, 9.0, 1.5, 0.0), (20.0, 0.0, 29.0, 9.0, -0.5, 0.0)], Limits(0.0))
    assert found.confidence.tolist() == [1.0]


def test_boxes_without_area_are_removed() -> None:
    rows = [(5.0, 5.0, 5.0, 9.0, 0.9, 0.0), (5.0, 9.0, 8.0, 5.0, 0.9, 0.0), (1.0, 1.0, 2.0, 2.0, 0.5, 0.0)]
    assert finished(rows, Limits(0.1)).confidence.tolist() == [0.5]


@pytest.mark.parametrize("far", [3e38, -3e38, 1e7])
def test_a_box_far_off_does_not_disturb_the_others(far: float) -> None:
    rows = [
        (0.0, 0.0, 10.0, 10.0, 0.9, 1.0),
        (1.0, 0.0, 11.0, 10.0, 0.8, 1.0),
        (1.0, 0.0, 11.0, 10.0, 0.7, 79.0),
        (min(far, 0.0), 0.0, max(far, 10.0), 10.0, 0.95, 0.0),
    ]
    found = finished(rows, Limits(0.1, 0.5))
    assert found.confidence.tolist() == [np.float32(value) for value in (0.95, 0.9, 0.7)]


def test_overlap_equal_to_the_limit_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 5, 10, 15]], np.float32)  # intersection over union is exactly 1/3
    scores, classes = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    assert suppressed(boxes, scores, classes, 1 / 3).tolist() == [0, 1]
    assert suppressed(boxes, scores, classes, 0.33).tolist() == [0]


def test_more_candidates_than_suppression_takes() -> None:
    n = MAX_CANDIDATES + 500
    rng = np.random.default_rng(0)
    xyxy = np.zeros((n, 4), np.float32)
    xyxy[:, 0] = np.arange(n) * 10
    xyxy[:, 2:] = xyxy[:, :2] + 5
    scores = rng.permutation(np.linspace(0.5, 1.0, n)).astype(np.float32)
    found = finish(xyxy, scores, np.zeros(n, np.int64), Limits(0.1, max_detections=10**6), overlap=True)
    np.testing.assert_array_equal(found.confidence, np.sort(scores)[::-1][:MAX_CANDIDATES])


def test_nothing_in_nothing_out() -> None:
    assert len(finished([], Limits())) == 0


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As in a fresh process, where nobody has asked for the operators yet."""
    suppress_operator.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    suppress_operator.cache_clear()


def test_without_the_library_torchvision_is_imported(forgotten: pytest.MonkeyPatch) -> None:
    registered = iter([False, True])
    forgotten.setattr(operators, "_registered", lambda: next(registered))
    forgotten.setattr(operators, "_load_library", lambda: False)
    imported: list[str] = []
    forgotten.setattr(operators.importlib, "import_module", imported.append)
    assert suppress_operator() is torch.ops.torchvision.nms
    assert imported == ["torchvision"]


def test_without_torchvision_suppression_works_all_the_same(
    forgotten: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"no module named {name}")

    forgotten.setattr(operators, "_registered", lambda: False)
    forgotten.setattr(operators, "_load_library", lambda: False)
    forgotten.setattr(operators.importlib, "import_module", missing)
    rows = [(0.0, 0.0, 10.0, 10.0, 0.9, 1.0), (1.0, 0.0, 11.0, 10.0, 0.8, 1.0), (1.0, 0.0, 11.0, 10.0, 0.7, 2.0)]
    assert finished(rows, Limits(0.1, 0.5)).confidence.tolist() == [np.float32(0.9), np.float32(0.7)]
    assert "torchvision does not work with torch" in caplog.text


def test_the_operators_come_without_the_rest_of_torchvision() -> None:
    program = (
        "import sys; from pipeline.detectors.loading.operators import suppress_operator; print(suppress_operator()); "
        "print(sorted({'torchvision', 'torch._dynamo'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["torchvision.nms", "[]"]
