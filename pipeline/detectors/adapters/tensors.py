# SPDX-License-Identifier: Apache-2.0
"""What the adapters share: finding the tensor, refusing shapes, and sharing candidates out to their pictures."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.detectors.adapter import Limits, Parsed, describe
from pipeline.detectors.suppress import finish
from pipeline.errors import InferenceError
from pipeline.frame import FloatArray, InputSpec, IntArray


def first_tensor(outputs: Any) -> Any:
    """The outputs themselves, or the first of a tuple or list: many exports return feature maps as well."""
    return outputs[0] if isinstance(outputs, list | tuple) and outputs else outputs


def shape_of(outputs: Any) -> tuple[int, ...]:
    """Shape of :func:`first_tensor`; empty for anything that has none."""
    return tuple(getattr(first_tensor(outputs), "shape", ()))


def refuse_shape(outputs: Any, expected: str) -> InferenceError:
    """The error for outputs of another shape than ``expected``."""
    return InferenceError(f"the model returned {describe(outputs)}; {expected} was expected")


def to_corners(boxes: FloatArray) -> FloatArray:
    """(k, 4) centre x, centre y, width, height to corners x1, y1, x2, y2."""
    half = boxes[:, 2:] * np.float32(0.5)
    return np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=1)


def to_pixels(boxes: FloatArray, spec: InputSpec, normalised: bool) -> FloatArray:
    """(k, 4) boxes in any form, x and y by turns, in network pixels."""
    return boxes * np.array([spec.width, spec.height] * 2, np.float32) if normalised else boxes


def candidates_to_detections(
    centred: FloatArray,
    scores: FloatArray,
    class_ids: IntArray,
    pictures: IntArray,
    invalid: list[int],
    limits: Limits,
) -> Parsed:
    """Share candidates out to their pictures, without those that are not finite, and suppress overlaps.

    Args:
        centred: (k, 4) boxes as centre and size, in network pixels.
        scores: (k,).
        class_ids: (k,).
        pictures: (k,) ascending: which picture each belongs to.
        invalid: rows per picture that were already found not to be finite; its length is the number of pictures.
        limits: what to keep.
    """
    finite = np.isfinite(centred).all(1) & np.isfinite(scores)
    if not finite.all():
        lost = np.bincount(pictures[~finite], minlength=len(invalid))
        invalid = [before + int(more) for before, more in zip(invalid, lost, strict=True)]
        centred, scores, class_ids, pictures = centred[finite], scores[finite], class_ids[finite], pictures[finite]
    xyxy = to_corners(centred)
    ends = np.searchsorted(pictures, np.arange(len(invalid) + 1))
    detections = [
        finish(xyxy[start:end], scores[start:end], class_ids[start:end], limits, overlap=True)
        for start, end in pairwise(ends)
    ]
    return Parsed(detections, invalid)
