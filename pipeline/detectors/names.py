# SPDX-License-Identifier: Apache-2.0
"""Class names for models that bring none: the categories of COCO (Lin et al. 2014), in both of their numberings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from pipeline.errors import ConfigError

_COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

# Numbers from 1 to 90 that the published data set leaves out.
_UNUSED = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})

COCO_80: dict[int, str] = dict(enumerate(_COCO))
"""The 80 categories numbered from 0 without gaps (Darknet, Ultralytics and most others)."""

COCO_91: dict[int, str] = dict(zip((i for i in range(1, 91) if i not in _UNUSED), _COCO, strict=True))
"""The same with the numbers of the annotation files, 1 to 90 (torchvision; 0 is the background)."""


def choose_labels(
    stored: Mapping[int, str],
    configured: Mapping[int, str] | Sequence[str] | None,
    count: int | None,
    first: int,
) -> dict[int, str]:
    """Class names by class id: the file's own, else the configured ones, else those of COCO when the count fits.

    Args:
        stored: from the file's metadata; may be empty.
        configured: from the configuration, as a mapping or as a list that starts at the class id ``first``.
        count: number of classes of the model, background included when ``first`` is 1; None when unknown.
        first: the lowest class id in use, 0 or 1.
    """
    if stored:
        return dict(stored)
    if isinstance(configured, Mapping):
        return dict(configured)
    if configured is not None:
        background = first if count == len(configured) else 0  # the list names the background, too
        return {first - background + index: label for index, label in enumerate(configured)}
    if first == 1 and count == 91:
        return dict(COCO_91)
    if first == 0 and count == 80:
        return dict(COCO_80)
    return {} if count is None else {index: f"class_{index}" for index in range(first, count)}


def choose_classes(wanted: Iterable[str | int] | None, labels: Mapping[int, str]) -> frozenset[int] | None:
    """Class ids to keep, or None for all of them.

    Args:
        wanted: names (upper and lower case do not matter) or class ids, also as text.
        labels: class names by class id; empty when the model has none.

    Raises:
        ConfigError: one line per name or id that the model does not have.
    """
    if wanted is None:
        return None
    by_name: dict[str, list[int]] = {}
    for class_id, label in labels.items():
        by_name.setdefault(label.casefold(), []).append(class_id)
    chosen: set[int] = set()
    faults: list[str] = []
    for entry in wanted:
        ids = by_name.get(str(entry).strip().casefold())
        if ids is None and (isinstance(entry, int) or entry.strip().isdecimal()):
            ids = [int(entry)] if int(entry) in labels or not labels else None
        if ids is None:
            faults.append(f"classes: the model has no class {entry!r}; {_hint(str(entry), labels)}")
        else:
            chosen.update(ids)
    if faults:
        raise ConfigError(faults)
    return frozenset(chosen)


def _hint(entry: str, labels: Mapping[int, str]) -> str:
    if not labels:
        return "it names no classes at all: give numbers, or names under `model.names`"
    near = difflib.get_close_matches(entry.casefold(), [label.casefold() for label in labels.values()], n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    shown = ", ".join(f"{label} ({class_id})" for class_id, label in list(labels.items())[:8])
    return f"it has {shown}{', ...' if len(labels) > 8 else ''}"
