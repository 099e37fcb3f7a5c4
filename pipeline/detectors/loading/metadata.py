# SPDX-License-Identifier: Apache-2.0
"""What a model file says about itself: JSON side files, Ultralytics' ``config.txt`` or our own ``pipeline.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import ModelLoadError

OWN_KEY = "pipeline.json"
ULTRALYTICS_KEY = "config.txt"


@dataclass(frozen=True, slots=True)
class Metadata:
    """Facts from a model's side files; everything is optional.

    Attributes:
        adapter: name of the adapter that fits, or None when only the outputs can tell.
        names: class names by class id; empty when unknown.
        size: network input (height, width) in pixels.
        stride: both sides of the input must be multiples of it.
        fixed_batch: the only batch size that the model takes, or None when any will do.
        fixed_size: the file says that it takes no input size but ``size``.
        source: the side file that this comes from; empty when there was none.
        input_spec: what of the input differs from what is usual for the adapter, see
            :meth:`pipeline.detectors.preprocessing.Preprocessing.overlaid`.
        adapter_options: of the adapter.
        largest_batch: the largest batch that the model takes, or None where there is no limit.
    """

    adapter: str | None = None
    names: dict[int, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    stride: int = 1
    fixed_batch: int | None = None
    fixed_size: bool = False
    source: str = ""
    input_spec: dict[str, Any] = field(default_factory=dict)
    adapter_options: dict[str, Any] = field(default_factory=dict)
    largest_batch: int | None = None


def read_metadata(side_files: Mapping[str, str], name: str) -> Metadata:
    """Interpret the side files of a model.

    Args:
        side_files: text by name, see :class:`pipeline.detectors.loading.archive.Archive`.
        name: how the messages call the model.

    Raises:
        ModelLoadError: the metadata are damaged, or describe a model that is not a detector of RGB pictures.
    """
    if OWN_KEY in side_files:
        return _own(_parse(side_files[OWN_KEY], OWN_KEY, name), name)
    if side_files.get(ULTRALYTICS_KEY, "").lstrip().startswith("{"):
        return _ultralytics(_parse(side_files[ULTRALYTICS_KEY], ULTRALYTICS_KEY, name), name)
    return Metadata()


def _parse(text: str, key: str, name: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError as exc:
        raise ModelLoadError(f"{name}: its metadata ({key}) are not valid JSON: {exc}; export it again") from exc
    if not isinstance(facts, dict):
        raise ModelLoadError(f"{name}: its metadata ({key}) are not a JSON object; export it again")
    return facts


def _own(facts: dict[str, Any], name: str) -> Metadata:
    fixed, most = facts.get("fixed_batch"), facts.get("max_batch")
    return Metadata(
        adapter=None if facts.get("adapter") is None else str(facts["adapter"]),
        names=_names(facts.get("names"), name),
        size=_size(facts.get("input"), OWN_KEY, name),
        stride=_count(facts.get("stride", 1), "stride", name),
        fixed_batch=None if fixed is None else _count(fixed, "fixed_batch", name),
        fixed_size=facts.get("fixed_size") is True,
        source=OWN_KEY,
        input_spec=_mapping(facts.get("input_spec"), "input_spec", name),
        adapter_options=_mapping(facts.get("adapter_options"), "adapter_options", name),
        largest_batch=None if most is None else _count(most, "max_batch", name),
    )


def _ultralytics(facts: dict[str, Any], name: str) -> Metadata:
    task = facts.get("task", "detect")
    if task != "detect":
        raise ModelLoadError(f"{name}: this is an Ultralytics model for the task '{task}'; only 'detect' is supported")
    channels = facts.get("channels", 3)
    if channels != 3:
        raise ModelLoadError(f"{name}: this model takes pictures of {channels} channels; RGB (3) is supported")
    options = facts.get("args")
    options = options if isinstance(options, dict) else {}
    baked_nms = options.get("nms") is True or facts.get("nms") is True
    dynamic = options.get("dynamic") is True or facts.get("dynamic") is True
    rows = baked_nms or facts.get("end2end") is True
    size = _size(facts.get("imgsz"), "imgsz", name)
    adapter = "rows" if rows else "ultralytics"
    if "task" not in facts and isinstance(facts.get("shape"), list):  # written by export.py of the YOLOv5 repository
        adapter, size = "yolov5", _size(facts["shape"][2:], "shape", name)
    # With nms=True the loop over the pictures is unrolled when traced: extra pictures come back empty, silently.
    batch = facts.get("batch", options.get("batch", 1)) if baked_nms else None
    return Metadata(
        adapter=adapter if "names" in facts else None,
        names=_names(facts.get("names"), name),
        size=size,
        stride=_count(facts.get("stride", 1), "stride", name),
        fixed_batch=None if batch is None else _count(batch, "batch", name),
        fixed_size=not dynamic and size is not None,
        source=ULTRALYTICS_KEY,
    )


def _names(value: Any, name: str) -> dict[int, str]:
    if value is None:
        return {}
    if isinstance(value, list):
        return {index: str(label) for index, label in enumerate(value)}
    try:
        return {int(index): str(label) for index, label in value.items()}  # JSON makes strings of the keys
    except (AttributeError, ValueError) as exc:
        raise ModelLoadError(f"{name}: class names in its metadata are neither a list nor keyed by number") from exc


def _mapping(value: Any, key: str, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return {str(each): of for each, of in value.items()}
    raise ModelLoadError(f"{name}: '{key}' in its metadata is {value!r}; a JSON object was expected")


def _size(value: Any, key: str, name: str) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = [value, value] if isinstance(value, int) else value
    if isinstance(sides, list) and len(sides) == 1:
        sides = sides * 2
    if isinstance(sides, list) and len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides):
        return sides[0], sides[1]
    raise ModelLoadError(f"{name}: '{key}' in its metadata is {value!r}; [height, width] was expected")


def _count(value: Any, key: str, name: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and value > 0:
        return value
    raise ModelLoadError(f"{name}: '{key}' in its metadata is {value!r}; a positive whole number was expected")
