# SPDX-License-Identifier: Apache-2.0
"""Detections as plain, rounded Python values: the same digits in every text format, whatever the machine."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pipeline.errors import SinkError
from pipeline.frame import Result

_STEPS = np.array([100.0, 100.0, 100.0, 100.0, 10_000.0])


class Columns(NamedTuple):
    """The n detections of one frame, one list of n per property.

    Attributes:
        class_id: as the model numbers its classes.
        label: the classes' names; the number in digits where the model has no name.
        confidence: rounded to 0.0001.
        box: x_min, y_min, x_max, y_max in source pixels, rounded to 0.01.
        track_id: None where nothing was tracked.
    """

    class_id: list[int]
    label: list[str]
    confidence: list[float]
    box: list[list[float]]
    track_id: list[int] | list[None]


def columns(result: Result) -> Columns:
    """The detections of ``result`` in their order. Raises SinkError where a number is not finite.

    Rounding is done in float64: an integer divided by a power of ten is the double nearest to that decimal number, so
    its shortest text has no more digits than it should, 0.1 and never 0.10000000149. Adding 0.0 makes -0.0 positive.
    """
    found = result.detections
    n = len(found)
    if not n:
        return Columns([], [], [], [], [])
    values = np.empty((n, 5))
    values[:, :4] = found.xyxy
    values[:, 4] = found.confidence
    values *= _STEPS
    np.rint(values, values)
    values /= _STEPS
    values += 0.0
    boxes: list[list[float]] = values[:, :4].tolist()
    confidences: list[float] = values[:, 4].tolist()
    if not math.isfinite(sum(map(sum, boxes)) + sum(confidences)):
        raise SinkError(
            f"{result.stream} frame {result.frame}: a box or confidence is not a finite number; "
            "a detector or follower let it through"
        )
    classes: list[int] = found.class_id.tolist()
    names = result.labels
    return Columns(
        classes,
        [names.get(class_id) or str(class_id) for class_id in classes],
        confidences,
        boxes,
        [None] * n if found.track_id is None else found.track_id.tolist(),
    )


def seconds(pts: float) -> float:
    """``pts`` rounded to a microsecond; never -0.0."""
    return round(pts, 6) + 0.0
