# SPDX-License-Identifier: Apache-2.0
"""builtin:people through the common interface: what it is called, what it takes, and that nothing gets lost between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.detectors import build_detector
from pipeline.detectors.people import INPUT_HEIGHT, INPUT_WIDTH, build_people, decode_people
from pipeline.errors import ConfigError, ModelLoadError
from pipeline.frame import Uint8Array
from tests.models import batch_of


def walker(height: int, width: int, feet: tuple[int, int], size: int) -> Uint8Array:
    """A dark upright figure of ``size`` pixels on light ground: head, trunk, two legs; its feet at (x, y)."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    u, v = (x - feet[0]) / size, (y - (feet[1] - size)) / size  # in units of its height, from the top of the head
    head = (u / 0.06) ** 2 + ((v - 0.07) / 0.07) ** 2 < 1
    trunk = (np.abs(u) < 0.13 - 0.04 * np.abs(v - 0.25)) & (v > 0.15) & (v < 0.55)
    legs = (np.abs(np.abs(u) - 0.02 - 0.10 * (v - 0.55)) < 0.045) & (v >= 0.55) & (v < 1.0)
    picture = np.full((height, width, 3), 200, np.uint8)
    picture[head | trunk | legs] = (60, 50, 70)
    return picture


@pytest.fixture(scope="module")
def people() -> Any:
    return build_detector("builtin:people", device="cpu", classes=["Person"], max_batch=4)


def test_what_it_says_of_itself(people: Any) -> None:
    info = people.model_info()
    assert [info["input_spec"][key] for key in ("dtype", "scale", "colour")] == ["uint8", 1.0, "rgb"]
    assert {key: value for key, value in info.items() if key not in ("input_spec", "verdict")} == {
        "path": "builtin:people",
        "sha256": None,
        "format": "builtin",
        "adapter": "people",
        "input": [INPUT_HEIGHT, INPUT_WIDTH],
        "trim": 8,
        "device": "cpu",
        "precision": "fp32",
        "max_batch": 4,
    }
    assert people.labels == {0: "person"}
    assert people.notes == []


def test_detections_are_those_of_its_own_decoder_in_any_batch(people: Any) -> None:
    spec = people.spec
    pictures = [walker(spec.height, spec.width, (150 + 150 * index, 340), 160 + 30 * index) for index in range(3)]
    with torch.inference_mode():
        stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
        expected = decode_people(build_people()(stacked), 0.4, 0.5)
    assert sum(map(len, expected)) >= 3, "the figures must be found for the comparison to mean anything"
    together = people.submit(batch_of(spec, *pictures, size=4)).result()
    for picture, found, rows in zip(pictures, together, expected, strict=True):
        alone = people.submit(batch_of(spec, picture)).result()[0]
        for detections in (found, alone):
            np.testing.assert_allclose(detections.xyxy, rows[:, :4], atol=0.01)
            np.testing.assert_allclose(detections.confidence, rows[:, 4], atol=1e-4)
            assert set(detections.class_id.tolist()) <= {0}


def test_it_takes_other_input_sizes() -> None:
    detector = build_detector("builtin:people", device="cpu", input_size=(288, 384), max_batch=1)
    spec = detector.spec
    assert (spec.height, spec.width) == (288, 384)
    found = detector.submit(batch_of(spec, walker(288, 384, (192, 268), 160))).result()[0]
    assert len(found) == 1
    centre = (found.xyxy[0, :2] + found.xyxy[0, 2:]) / 2
    np.testing.assert_allclose(centre, [192, 188], atol=20)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"adapter": "rows"}, ModelLoadError, "the adapter 'rows' does not fit"),
        ({"sha256": "0" * 64}, ModelLoadError, "has no file to compare"),
        ({"classes": ["car"]}, ConfigError, r"no class 'car'; it has person \(0\)"),
        ({"precision": "int8"}, ModelLoadError, "not quantised"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        build_detector("builtin:people", device="cpu", **options)
