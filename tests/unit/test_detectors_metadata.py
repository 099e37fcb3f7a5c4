# SPDX-License-Identifier: Apache-2.0
"""Side files of model files, as their authors write them and as they get damaged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.detectors.loading.metadata import Metadata, read_metadata
from pipeline.errors import ModelLoadError
from tests.models import ultralytics_metadata


def read(facts: Any, key: str = "config.txt") -> Metadata:
    return read_metadata({key: facts if isinstance(facts, str) else json.dumps(facts)}, "m.torchscript")


def test_ultralytics() -> None:
    facts = ultralytics_metadata((480, 640), {0: "person", 1: "car"})["config.txt"]
    found = read(facts)
    assert found == Metadata("ultralytics", {0: "person", 1: "car"}, (480, 640), 32, None, True, "config.txt")


@pytest.mark.parametrize(
    ("change", "attribute", "expected"),
    [
        ({"args": {"nms": True, "batch": 8}, "batch": 8}, "fixed_batch", 8),
        ({"args": {"nms": True, "batch": 8}, "batch": 8}, "adapter", "rows"),
        ({"end2end": True}, "adapter", "rows"),
        ({"end2end": True}, "fixed_batch", None),
        ({"args": {"dynamic": True}}, "fixed_size", False),
        ({"args": None}, "fixed_size", True),
        ({"imgsz": 320}, "size", (320, 320)),
        ({"imgsz": [320]}, "size", (320, 320)),
        ({"imgsz": None}, "size", None),
        ({"stride": 64.0}, "stride", 64),
        ({"names": ["a", "b"]}, "names", {0: "a", 1: "b"}),
        ({"names": None}, "names", {}),
    ],
)
def test_variants_of_ultralytics(change: dict[str, Any], attribute: str, expected: Any) -> None:
    facts = ultralytics_metadata((480, 640), {0: "person"})["config.txt"] | change
    assert getattr(read(facts), attribute) == expected


def test_yolov5_repository() -> None:
    found = read({"shape": [1, 3, 480, 640], "stride": 32, "names": {"0": "person"}})
    assert (found.adapter, found.size, found.stride) == ("yolov5", (480, 640), 32)


def test_own_key_wins() -> None:
    files = {"pipeline.json": '{"adapter": "rows", "fixed_batch": 2}', "config.txt": '{"names": ["a"]}'}
    found = read_metadata(files, "m")
    assert (found.adapter, found.fixed_batch, found.names, found.source) == ("rows", 2, {}, "pipeline.json")


@pytest.mark.parametrize("files", [{}, {"readme.txt": "{}"}, {"config.txt": "just text"}])
def test_none(files: dict[str, str]) -> None:
    assert read_metadata(files, "m") == Metadata()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ("{broken", "not valid JSON"),
        ({"task": "segment", "names": {}}, "the task 'segment'; only 'detect'"),
        ({"task": "detect", "channels": 1}, "1 channels"),
        ({"names": {"zero": "a"}}, "neither a list nor keyed by number"),
        ({"names": 3}, "neither a list nor keyed by number"),
        ({"imgsz": [1, 2, 3]}, r"'imgsz' in its metadata is \[1, 2, 3\]"),
        ({"imgsz": "640"}, "'imgsz' in its metadata is '640'"),
        ({"stride": 0}, "'stride' in its metadata is 0"),
        ({"batch": "x", "args": {"nms": True}}, "'batch' in its metadata is 'x'"),
    ],
)
def test_damaged(facts: Any, said: str) -> None:
    with pytest.raises(ModelLoadError, match=said) as error:
        read(facts)
    assert "\n" not in str(error.value)


def test_own_metadata_must_be_an_object() -> None:
    with pytest.raises(ModelLoadError, match="not a JSON object"):
        read("[1]", "pipeline.json")
