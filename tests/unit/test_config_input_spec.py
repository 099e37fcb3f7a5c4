# SPDX-License-Identifier: Apache-2.0
"""``model.input_spec`` and ``model.adapter_options``: what is taken and refused, and that it reaches the detector."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import build
from pipeline.build import detection
from pipeline.config import parse_config
from pipeline.errors import ConfigError


def model(text: str) -> Any:
    document = f"model: {{path: m.pt, {text}}}\nstreams: [{{name: a, source: a.mp4}}]\n"
    return parse_config(document.encode(), environ={}).config.model


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input_spec: {scale: 1/255}", {"scale": "1/255"}),
        ("input_spec: {scale: 1, colour: bgr}", {"scale": 1.0, "colour": "bgr"}),
        ("input_spec: {mean: 127.5}", {"mean": (127.5, 127.5, 127.5)}),
        ("input_spec: {std: [1, 2, 3]}", {"std": (1.0, 2.0, 3.0)}),
        ("input_spec: {fit: top_left, pad_value: 0, stride: 64}", {"fit": "top_left", "pad_value": 0, "stride": 64}),
        ("input_spec: {dtype: uint8, layout: nhwc}", {"dtype": "uint8", "layout": "nhwc"}),
        ("input_spec: {}", {}),
    ],
)
def test_values(text: str, expected: dict[str, Any]) -> None:
    assert model(text).input_spec.model_dump(exclude_none=True) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input_spec: {color: bgr}", "color"),
        ("input_spec: {colour: grb}", "colour"),
        ("input_spec: {scale: 0}", "1/255, or a number above 0"),
        ("input_spec: {scale: 1/256}", "1/255, or a number above 0"),
        ("input_spec: {mean: [1, 2]}", "three numbers"),
        ("input_spec: {std: [1, 0, 1]}", "above 0"),
        ("input_spec: {pad_value: 256}", "255"),
        ("input_spec: {stride: 0}", "stride"),
        ("adapter_options: [1]", "mapping"),
        ("adapter_options: {box: {width: 3}}", "box"),
    ],
)
def test_refused_with_the_key(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        model(text)
    assert len(error.value.faults) == 1
    assert said in error.value.faults[0]


def test_they_reach_the_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(detection, "build_detector", lambda path, **options: seen.update(options))
    build.detector(model("adapter: heatmap, adapter_options: {box: [3, 4]}, input_spec: {colour: bgr}"), max_batch=2)
    assert seen["adapter"] == "heatmap"
    assert list(seen["adapter_options"]["box"]) == [3, 4]
    assert seen["input_spec"] == {"colour": "bgr"}
    build.detector(model("adapter: rows"), max_batch=2)
    assert seen["input_spec"] is None
