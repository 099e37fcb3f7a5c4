# SPDX-License-Identifier: Apache-2.0
"""Transformer detectors that return one box per query: RT-DETR with its scores finished, DETR and RF-DETR as logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from pipeline.detectors.adapter import Limits, Parsed
from pipeline.detectors.adapters.family import Family, Options, only
from pipeline.detectors.adapters.tensors import (
    count_nan,
    least_logit,
    nothing,
    refuse_shape,
    share_out,
    sigmoid,
    to_corners,
    to_pixels,
    units,
)
from pipeline.detectors.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from pipeline.frame import InputSpec

STRETCHED = Preprocessing(fit="stretch")
"""RT-DETR: resized to a square, 0..1, nothing else."""

IMAGENET = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD, fit="stretch")
"""DETR and RF-DETR. DETR was trained on pictures that keep their aspect ratio, but boxes are in 0..1 of the input."""

_COCO_NUMBERS = 91  # ids 0 to 90, of which 80 are in use
_TRIPLE = "(labels (B, queries), boxes (B, queries, 4), scores (B, queries))"
_PAIR = "(boxes (B, queries, 4), logits (B, queries, classes)), or a dict with pred_boxes and pred_logits,"


@dataclass(frozen=True, slots=True)
class Rtdetr:
    """Labels, corners and scores as ``RTDETRPostProcessor`` returns them when deployed; D-FINE and DEIM do the same.

    The network multiplies its boxes by the size that it is given as second input: the input's own size, so they come
    in network pixels.

    Attributes:
        normalised: boxes come in units of the input's width and height instead of in pixels.
    """

    normalised: bool = False
    name: str = "rtdetr"
    preprocessing: Preprocessing = STRETCHED

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        found = triple(outputs)
        if found is None or found[0].shape[0] != size:
            raise refuse_shape(outputs, _TRIPLE.replace("B", str(size)))

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """``limits.iou`` has no effect: queries do not repeat each other."""
        labels, boxes, scores = outputs[0][:count], outputs[1][:count], outputs[2][:count]
        picture, query = (scores >= limits.confidence).nonzero().unbind(1)
        invalid = count_nan(scores)
        if not len(picture):
            return nothing(invalid)
        xyxy = to_pixels(boxes[picture, query].float().cpu().numpy(), spec, self.normalised)
        found = scores[picture, query].float().cpu().numpy()
        class_ids = labels[picture, query].long().cpu().numpy()
        return share_out(xyxy, found, class_ids, picture.cpu().numpy(), invalid, limits, overlap=False)


@dataclass(frozen=True, slots=True)
class Queries:
    """Boxes as centre and size in 0..1 of the input, and logits.

    Attributes:
        classes: number of classes that can be found.
        activation: ``sigmoid``: every class of a query is a candidate of its own (RF-DETR, LW-DETR, Deformable DETR);
            ``softmax``: the last class is "no object", and each query's most probable other class counts (DETR).
        name: ``rfdetr`` or ``detr``.
    """

    classes: int
    activation: Literal["sigmoid", "softmax"]
    name: str
    preprocessing: Preprocessing = IMAGENET

    @property
    def first_class(self) -> int:
        """1 where the classes are COCO's with their numbers from 1 to 90."""
        return 1 if self.classes == _COCO_NUMBERS else 0

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        found = pair(outputs, boxes_first=self.name == "rfdetr")
        channels = self.classes + (self.activation == "softmax")
        if found is None or found[0].shape[0] != size or found[1].shape[2] != channels:
            raise refuse_shape(outputs, _PAIR.replace("B", str(size)).replace("classes", str(channels)))

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """``limits.iou`` has no effect: queries do not repeat each other."""
        found = pair(outputs, boxes_first=self.name == "rfdetr")
        if found is None:
            raise refuse_shape(outputs, _PAIR)
        boxes, logits = found[0][:count], found[1][:count]
        if self.activation == "softmax":
            scores = logits.float().softmax(2)[..., :-1]
            best, label = scores.max(2)
            invalid = count_nan(best)
            picture, query = (best >= limits.confidence).nonzero().unbind(1)
            class_id, values = label[picture, query], best[picture, query].cpu().numpy()
        else:
            invalid = count_nan(logits.amax(2))
            picture, query, class_id = (logits >= least_logit(limits.confidence)).nonzero().unbind(1)
            values = sigmoid(logits[picture, query, class_id])
        if not len(picture):
            return nothing(invalid)
        xyxy = to_corners(to_pixels(boxes[picture, query].float().cpu().numpy(), spec, normalised=True))
        ids, pictures = class_id.cpu().numpy(), picture.cpu().numpy()
        return share_out(xyxy, values, ids, pictures, invalid, limits, overlap=False)


def triple(outputs: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Labels (B, Q), boxes (B, Q, 4) and scores (B, Q), if that is what the outputs are."""
    if not isinstance(outputs, list | tuple) or len(outputs) < 3:
        return None
    labels, boxes, scores = outputs[:3]
    if not all(isinstance(each, torch.Tensor) for each in (labels, boxes, scores)):
        return None
    if scores.dim() != 2 or labels.shape != scores.shape or tuple(boxes.shape) != (*scores.shape, 4):
        return None
    return labels, boxes, scores


def pair(outputs: Any, *, boxes_first: bool = True) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Boxes (B, Q, 4) and logits (B, Q, C), if that is what the outputs are: a dict, or the first two of a tuple.

    Args:
        outputs: of the network.
        boxes_first: the order in a tuple where both tensors have four channels.
    """
    if isinstance(outputs, dict):
        boxes, logits = outputs.get("pred_boxes"), outputs.get("pred_logits", outputs.get("logits"))
    elif isinstance(outputs, list | tuple) and len(outputs) >= 2:
        boxes, logits = outputs[:2] if boxes_first else (outputs[1], outputs[0])
        if getattr(boxes, "shape", (0,))[-1:] != (4,):
            boxes, logits = logits, boxes
    else:
        return None
    if not isinstance(boxes, torch.Tensor) or not isinstance(logits, torch.Tensor):
        return None
    if boxes.dim() != 3 or logits.dim() != 3:
        return None
    return (boxes, logits) if boxes.shape[2] == 4 and boxes.shape[:2] == logits.shape[:2] else None


def activation_of(logits: torch.Tensor) -> Literal["sigmoid", "softmax"] | None:
    """What the logits (B, Q, C) of a picture with little in it tell about the activation; None: nothing for certain.

    With softmax nearly every query of such a picture says "no object", the last class, and says it clearly. With
    sigmoid nearly every logit is negative. Where both or neither is the case nobody can tell.
    """
    finite = logits.float().nan_to_num()
    clear = finite.softmax(2)[..., -1] > 0.5
    softmax = logits.shape[2] > 1 and bool(clear.float().mean() >= 0.9)
    sigmoid = bool((finite < 0.0).float().mean() >= 0.99)
    if softmax == sigmoid:
        return None
    return "softmax" if softmax else "sigmoid"


def _make_rtdetr(outputs: Any, spec: InputSpec, options: Options) -> Rtdetr:
    only(options, "normalised")
    found = triple(outputs)
    if found is None:
        raise refuse_shape(outputs, _TRIPLE)
    return Rtdetr(units(found[1].float(), options))


def _make_rfdetr(outputs: Any, spec: InputSpec, options: Options) -> Queries:
    only(options)
    found = pair(outputs)
    if found is None:
        raise refuse_shape(outputs, _PAIR)
    return Queries(found[1].shape[2], "sigmoid", "rfdetr")


def _make_detr(outputs: Any, spec: InputSpec, options: Options) -> Queries:
    only(options)
    found = pair(outputs, boxes_first=False)
    if found is None or found[1].shape[2] < 2:
        raise refuse_shape(outputs, _PAIR)
    return Queries(found[1].shape[2] - 1, "softmax", "detr")


RTDETR = Family("rtdetr", STRETCHED, _make_rtdetr)
RFDETR = Family("rfdetr", IMAGENET, _make_rfdetr)
DETR = Family("detr", IMAGENET, _make_detr)
