# SPDX-License-Identifier: Apache-2.0
"""Two detectors on the same frames: what they share, whose ids count, pictures of where they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline.detectors.agreement import renamed
from pipeline.frame import Detections
from pipeline.workshop.compare import Limits, compare, open_detector
from pipeline.workshop.frames import detect, items, sample
from pipeline.workshop.side_by_side import save_worst
from pipeline.workshop.speed import interleaved_ms
from pipeline.workshop.swapping import running
from tests.models import NAMES, Cells, save, ultralytics_metadata


def test_a_model_agrees_with_itself(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "a.pt", ultralytics_metadata((64, 64), NAMES))
    a, b = open_detector(path, Limits()), open_detector(path, Limits())
    found = compare(a, b, sample(None, 3), rounds=3)
    assert found.agreement.count_a > 0
    assert found.agreement.matched == {0.9: 1.0, 0.75: 1.0, 0.5: 1.0}
    assert found.agreement.map == 1.0
    assert (found.a.size_bytes, found.a.precision) == (path.stat().st_size, "fp32")
    assert min(found.a.ms, found.b.ms) > 0.0


def test_boxes_of_another_size_differ_and_are_drawn(tmp_path: Path) -> None:
    facts = ultralytics_metadata((64, 64), NAMES)
    limits = Limits(0.25, 0.9)
    a = open_detector(save(Cells(), tmp_path / "a.pt", facts), limits)
    b = open_detector(save(Cells(grow=0.9), tmp_path / "b.pt", facts), limits)
    captures = sample(None, 3)
    found = compare(a, b, captures, rounds=3)
    assert found.agreement.matched[0.9] < found.agreement.matched[0.75] == 1.0
    other = open_detector(save(Cells(grow=0.5), tmp_path / "c.pt", facts), limits)
    found = compare(a, other, captures, rounds=3)
    pictures = save_worst(found, captures, tmp_path, 2)
    assert [path.name for path in pictures] == ["worst-1.png", "worst-2.png"]
    picture = cv2.imread(str(pictures[0]))
    assert picture is not None
    assert picture.shape == (360, 2 * 640 + 4, 3)
    assert (picture[:300, :640] != picture[:300, 644:]).any(), "other boxes on either side"


def test_classes_are_compared_by_name() -> None:
    found = Detections(np.zeros((3, 4), np.float32), np.ones(3, np.float32), np.array([1, 2, 7], np.int64))
    (by_name,) = renamed([found], {1: "car", 2: "dog"}, {0: "person", 1: "dog", 2: "car"})
    assert by_name.class_id.tolist() == [2, 1, 10]
    (unknown,) = renamed([found], {1: "zebra", 2: "dog"}, {0: "dog"})
    assert unknown.class_id.tolist()[1] == 0
    assert unknown.class_id.tolist()[0] not in (0, unknown.class_id.tolist()[2])
    assert renamed([found], {}, {0: "dog"}) == [found]


def test_programs_are_timed_in_turns() -> None:
    calls: list[tuple[str, int]] = []
    times = interleaved_ms([lambda n: calls.append(("a", n)), lambda n: calls.append(("b", n))], inputs=2, rounds=4)
    assert len(times) == 2
    assert [name for name, _ in calls[4:]] == ["a", "b"] * 4
    assert [number for _, number in calls[4:]] == [0, 0, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("seconds", [0.0])
def test_timing_ends_after_its_time(seconds: float) -> None:
    calls: list[int] = []
    interleaved_ms([calls.append], inputs=1, rounds=1000, seconds=seconds)
    assert len(calls) == 2 + 3


def test_another_program_in_a_detectors_place(tmp_path: Path) -> None:
    detector = open_detector(save(Cells(), tmp_path / "m.pt", ultralytics_metadata((64, 64), NAMES)), Limits(), "cpu")
    own = detector.program
    seen: list[tuple[int, ...]] = []

    class Watching(torch.nn.Module):
        def forward(self, given: torch.Tensor) -> Any:
            seen.append(tuple(given.shape))
            return own(given)

    with running(detector, Watching()):
        detect(detector, items(sample(None, 1), detector.spec))
    assert seen == [(1, 3, 64, 64)]
    assert detector.program is own
    detector.close()
    with pytest.raises(ValueError, match="closed"):
        assert detector.program
