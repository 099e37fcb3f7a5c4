# SPDX-License-Identifier: Apache-2.0
"""Which family of detectors a network's outputs belong to, as far as their structure and shapes tell for certain."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.detectors.adapter import describe
from pipeline.detectors.adapters.grid import LEVELS, cells
from pipeline.detectors.adapters.queries import activation_of, pair, triple
from pipeline.detectors.adapters.tensors import first_tensor
from pipeline.frame import InputSpec

_MOST_ROWS = 1000
_KNOWN = (
    "(B, 4 + classes, anchors), (B, anchors, 5 + classes), (B, rows, 6), (boxes, logits), (labels, boxes, scores) or "
    "(B, 1, rows, columns)"
)


class Unclear(Exception):
    """The outputs fit no family, or several; the message says what came and why that is not enough."""


def tell(outputs: Any, size: int, spec: InputSpec, classes: int = 0) -> str:
    """The name of the family.

    Args:
        outputs: what the network returned.
        size: how many pictures it was shown.
        spec: their size.
        classes: how many classes the file or the configuration names; 0: it is not known.

    Raises:
        Unclear: nothing is guessed.
    """
    if triple(outputs) is not None:
        return "rtdetr"
    boxes_and_logits = pair(outputs)
    if boxes_and_logits is not None and boxes_and_logits[0].shape[1] <= _MOST_ROWS:
        activation = activation_of(boxes_and_logits[1])
        if activation is None:
            raise Unclear(
                f"{describe(outputs)}: boxes and logits, but whether a sigmoid (rfdetr) or a softmax (detr) makes "
                "scores of them cannot be told"
            )
        return "rfdetr" if activation == "sigmoid" else "detr"
    output = first_tensor(outputs)
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else ()
    if len(shape) == 4 and shape[:2] == (size, 1):
        return "heatmap"
    if len(shape) != 3 or shape[0] != size:
        raise Unclear(
            f"{describe(outputs)} for a batch of {size} at {spec.width}x{spec.height}; "
            f"{_KNOWN.replace('B', str(size))} was expected"
        )
    return _dense(describe(output), shape[1], shape[2], spec, classes)


def _dense(shown: str, middle: int, last: int, spec: InputSpec, classes: int) -> str:
    """Tell by the two last axes: anchors are many, channels are few."""
    per_level = [cells(spec.height, spec.width, strides) for strides in LEVELS]
    if last == 6 and middle in [3 * count for count in per_level]:
        return "yolov5"
    if last == 6 and middle <= _MOST_ROWS and middle not in per_level:
        return "rows"
    if middle >= 5 and last >= 2 * middle:
        return "ultralytics"
    if last >= 6 and middle in per_level:
        return _per_cell(shown, last, classes)
    if last >= 7 and middle >= 2 * last:
        return "yolov5"
    several = "this fits rows and heads with objectness" if last == 6 else "this fits no known head for certain"
    raise Unclear(f"{shown}: {several}")


def _per_cell(shown: str, last: int, classes: int) -> str:
    """One row per grid cell: only the number of classes tells what the other channels are."""
    more = last - classes if classes else 0
    if more == 5:
        return "yolox"
    if more == 32:
        return "nanodet"
    several = ["yolox"] + ["nanodet"] * (last > 32) + ["transposed Ultralytics heads"]
    named = f"; with {classes} classes it fits none of them" if classes else ""
    raise Unclear(f"{shown}: one row per grid cell, as {', '.join(several)} have it, is ambiguous{named}")
