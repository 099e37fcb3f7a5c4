# SPDX-License-Identifier: Apache-2.0
"""Scripted torchvision detectors (SSD, SSDlite, Faster R-CNN, RetinaNet, FCOS): a list of pictures in, dicts out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.detectors.adapter import Limits, Parsed, describe
from pipeline.detectors.adapters.family import Family, Options, only
from pipeline.detectors.preprocessing import USUAL, Preprocessing
from pipeline.detectors.suppress import finish
from pipeline.errors import InferenceError
from pipeline.frame import InputSpec

_KEYS = ("boxes", "scores", "labels")


@dataclass(frozen=True, slots=True)
class Torchvision:
    """Resizing, normalisation and suppression happen inside; boxes are corners in pixels of the given picture.

    Class ids start at 1; with 91 classes they are those of COCO's annotation files.
    """

    name: str = "torchvision"
    preprocessing: Preprocessing = USUAL
    first_class: int = 1

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        pictures = _pictures(outputs)
        if pictures is None or len(pictures) != size:
            expected = f"(losses, list of {size} dicts with boxes, scores and labels)"
            raise InferenceError(f"the model returned {describe(outputs)}; {expected} was expected")
        for found in pictures:
            shapes = [tuple(found[key].shape) for key in _KEYS]
            rows = shapes[1][0] if shapes[1] else -1
            if shapes != [(rows, 4), (rows,), (rows,)]:
                raise InferenceError(f"the model returned {describe(found)}; boxes (n, 4), scores (n,), labels (n,)")

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """``limits.iou`` has no effect: suppression is part of the network."""
        detections, invalid = [], []
        for found in (_pictures(outputs) or [])[:count]:
            xyxy, scores = (found[key].float().cpu().numpy() for key in _KEYS[:2])
            class_ids = found["labels"].cpu().numpy().astype(np.int64)
            finite = np.isfinite(xyxy).all(1) & np.isfinite(scores)
            invalid.append(len(scores) - int(finite.sum()))
            if not finite.all():
                xyxy, scores, class_ids = xyxy[finite], scores[finite], class_ids[finite]
            detections.append(finish(xyxy, scores, class_ids, limits, overlap=False))
        return Parsed(detections, invalid)


def _make(outputs: Any, spec: InputSpec, options: Options) -> Torchvision:
    only(options)
    return Torchvision()


TORCHVISION = Family("torchvision", USUAL, _make, takes_list=True)


def _pictures(outputs: Any) -> list[dict[str, Any]] | None:
    """The list of dicts in ``(losses, detections)`` or in the bare list of an eager-like module."""
    if isinstance(outputs, tuple) and len(outputs) == 2:
        outputs = outputs[1]
    if isinstance(outputs, list) and all(isinstance(found, dict) and set(_KEYS) <= found.keys() for found in outputs):
        return outputs
    return None
