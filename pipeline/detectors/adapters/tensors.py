# SPDX-License-Identifier: Apache-2.0
"""What the adapters share: finding the tensor, refusing shapes, and sharing candidates out to their pictures."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline.detectors.adapter import Limits, Parsed, describe
from pipeline.detectors.adapters.family import Options, flag
from pipeline.detectors.suppress import finish
from pipeline.errors import InferenceError
from pipeline.frame import Detections, FloatArray, InputSpec, IntArray


def first_tensor(outputs: Any) -> Any:
    """The outputs themselves, or the first of a tuple, list or dict: many exports return feature maps as well."""
    if isinstance(outputs, dict) and outputs:
        return next(iter(outputs.values()))
    return outputs[0] if isinstance(outputs, list | tuple) and outputs else outputs


def shape_of(outputs: Any) -> tuple[int, ...]:
    """Shape of :func:`first_tensor`; empty for anything that has none."""
    return tuple(getattr(first_tensor(outputs), "shape", ()))


def refuse_shape(outputs: Any, expected: str) -> InferenceError:
    """The error for outputs of another shape than ``expected``."""
    return InferenceError(f"the model returned {describe(outputs)}; {expected} was expected")


def of_rank(outputs: Any, rank: int, expected: str) -> torch.Tensor:
    """:func:`first_tensor` as float32, if it has so many axes; else raises InferenceError."""
    output = first_tensor(outputs)
    if not isinstance(output, torch.Tensor) or output.dim() != rank:
        raise refuse_shape(outputs, expected)
    return output.float()


def normalised(boxes: torch.Tensor) -> bool:
    """Whether no coordinate of any box leaves 0..1 by much: so small no box in pixels is."""
    return bool(boxes.numel()) and 0.0 < float(boxes.abs().amax()) <= 2.0


def units(boxes: torch.Tensor, options: Options) -> bool:
    """Whether boxes are normalised: by the option of that name, else by :func:`normalised`; raises ValueError."""
    said = flag(options, "normalised")
    return normalised(boxes) if said is None else said


def to_corners(boxes: FloatArray) -> FloatArray:
    """(k, 4) centre x, centre y, width, height to corners x1, y1, x2, y2."""
    half = boxes[:, 2:] * np.float32(0.5)
    with np.errstate(over="ignore", invalid="ignore"):  # infinite ones are removed by `share_out`
        return np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=1)


def to_pixels(boxes: FloatArray, spec: InputSpec, normalised: bool) -> FloatArray:
    """(k, 4) boxes in any form, x and y by turns, in network pixels."""
    return boxes * np.array([spec.width, spec.height] * 2, np.float32) if normalised else boxes


def count_nan(scores: torch.Tensor) -> list[int]:
    """How many of each picture's scores (B, ...) are NaN. One pass where none is: the rule."""
    if torch.isnan(scores.sum()):
        counts: list[int] = torch.isnan(scores).flatten(1).sum(1).tolist()
        return counts
    return [0] * len(scores)


class Objects(NamedTuple):
    """Rows of a head with objectness that may be detections, k of them.

    Attributes:
        rows: (k, 5 + classes) float32.
        scores: (k,) objectness times the probability of the most probable class.
        class_ids: (k,) that class.
        pictures, places: (k,) which picture each belongs to, ascending, and which of its rows it is.
        invalid: how many rows of each picture have no number for their objectness.
    """

    rows: FloatArray
    scores: FloatArray
    class_ids: IntArray
    pictures: IntArray
    places: IntArray
    invalid: list[int]


def objects(output: torch.Tensor, confidence: float) -> Objects:
    """Of (B, n, 5 + classes) the rows whose objectness reaches ``confidence``.

    Objectness and class probability are at most 1, so objectness alone rules rows out.
    """
    objectness = output[..., 4]
    picture, place = (objectness >= confidence).nonzero().unbind(1)
    invalid = count_nan(objectness)
    rows = output[picture, place].float().cpu().numpy()
    scores, class_ids = rows[:, 4] * rows[:, 5:].max(1), rows[:, 5:].argmax(1)
    return Objects(rows, scores, class_ids, picture.cpu().numpy(), place.cpu().numpy(), invalid)


def least_logit(confidence: float) -> float:
    """A little less than the logit of ``confidence``: candidates are chosen by it, and their scores compared again."""
    if confidence <= 0.0:
        return -math.inf
    return math.log(confidence / (1.0 - confidence)) - 1e-3 if confidence < 1.0 - 1e-7 else 16.0


def sigmoid(logits: torch.Tensor) -> FloatArray:
    """Scores (k,) float32 of logits; NaN for infinite ones, which come from an overflow and not from certainty."""
    values = logits.float()
    scores: FloatArray = values.sigmoid().masked_fill(values.isinf(), torch.nan).cpu().numpy()
    return scores


def nothing(invalid: list[int]) -> Parsed:
    """No detections in any picture."""
    return Parsed([Detections.empty() for _ in invalid], invalid)


def share_out(
    xyxy: FloatArray,
    scores: FloatArray,
    class_ids: IntArray,
    pictures: IntArray,
    invalid: list[int],
    limits: Limits,
    *,
    overlap: bool,
) -> Parsed:
    """Share candidates out to their pictures, without those that are not finite, and apply the limits.

    Args:
        xyxy: (k, 4) corners in network pixels.
        scores: (k,).
        class_ids: (k,).
        pictures: (k,) ascending: which picture each belongs to.
        invalid: rows per picture that were already found not to be finite; its length is the number of pictures.
        limits: what to keep.
        overlap: whether overlapping boxes of one class are to be suppressed.
    """
    finite = np.isfinite(xyxy).all(1) & np.isfinite(scores)
    if not finite.all():
        lost = np.bincount(pictures[~finite], minlength=len(invalid))
        invalid = [before + int(more) for before, more in zip(invalid, lost, strict=True)]
        xyxy, scores, class_ids, pictures = xyxy[finite], scores[finite], class_ids[finite], pictures[finite]
    ends = np.searchsorted(pictures, np.arange(len(invalid) + 1))
    detections = [
        finish(xyxy[start:end], scores[start:end], class_ids[start:end], limits, overlap=overlap)
        for start, end in pairwise(ends)
    ]
    return Parsed(detections, invalid)
