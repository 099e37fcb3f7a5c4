# SPDX-License-Identifier: Apache-2.0
"""Which adapter fits a model: the user's word, else its signature, else its metadata, else the shape of its outputs."""

from __future__ import annotations

import difflib
from typing import Any

import torch

from pipeline.detectors.adapter import UNIT, Adapter, Encoding, describe
from pipeline.detectors.adapters import ADAPTERS, Rows, Torchvision, Ultralytics, Yolov5
from pipeline.detectors.adapters.tensors import first_tensor
from pipeline.detectors.load import LoadedModel
from pipeline.errors import InferenceError, ModelLoadError
from pipeline.frame import InputSpec

_MOST_ROWS = 1000
_REMEDY = "set model.adapter to ultralytics, yolov5 or rows, or export the model with metadata"


def known_before_running(model: LoadedModel, wanted: str | None) -> str | None:
    """The adapter's name as far as configuration, signature and metadata tell, in this order.

    Raises:
        ModelLoadError: an adapter of that name does not exist, or cannot feed this model.
    """
    if not model.digest and wanted not in (None, model.metadata.adapter):
        raise ModelLoadError(f"{model.path}: the adapter {wanted!r} does not fit a built-in model; leave it out")
    name = wanted or ("torchvision" if model.signature.takes_list else model.metadata.adapter)
    if name is None:
        return None
    if name not in ADAPTERS:
        near = difflib.get_close_matches(name, ADAPTERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(ADAPTERS)} was expected"
        raise ModelLoadError(f"{model.path}: there is no adapter {name!r}; {hint}")
    if (name == "torchvision") != model.signature.takes_list:
        takes = "a list of pictures" if model.signature.takes_list else "one tensor"
        raise ModelLoadError(f"{model.path}: the adapter {name} does not fit, because forward() takes {takes}")
    return name


def encoding_of(adapter: str | None) -> Encoding:
    """How to feed a model whose adapter is known, or is still to be told from its outputs."""
    return ADAPTERS[adapter] if adapter is not None else UNIT


def fit_adapter(
    model: LoadedModel, wanted: str | None, known: str | None, outputs: Any, size: int, spec: InputSpec
) -> Adapter:
    """Make the adapter for a model from the outputs of one run.

    Args:
        model: what was loaded.
        wanted: the adapter that the user asks for; it is not doubted as long as the shapes allow it.
        known: what :func:`known_before_running` told.
        outputs: what the network returned.
        size: how many pictures it was shown.
        spec: size of the pictures.

    Raises:
        ModelLoadError: the outputs do not fit, or fit several adapters; shapes are printed.
    """
    if known == "torchvision":
        return _checked(Torchvision(), model, outputs, size)
    output = first_tensor(outputs)
    if not isinstance(output, torch.Tensor) or output.dim() != 3 or output.shape[0] != size:
        raise ModelLoadError(
            f"{model.path}: for {size} pictures of {spec.height}x{spec.width} the model returned {describe(outputs)}; "
            f"({size}, 4 + classes, anchors), ({size}, anchors, 5 + classes) or ({size}, rows, 6) was expected"
        )
    if known is None or (wanted is None and not _agrees(model, known, output)):
        told = _by_shape(model, output, spec)
        if told == known:
            raise ModelLoadError(
                f"{model.path}: its metadata name {len(model.metadata.names)} classes, but the model returned "
                f"{describe(output)}. Remedy: {_REMEDY}"
            )
        known = told
    return _checked(_make(known, output), model, outputs, size)


def _agrees(model: LoadedModel, known: str, output: torch.Tensor) -> bool:
    """Whether the outputs have as many channels as the metadata, which named the adapter, name classes."""
    classes = len(model.metadata.names)
    if known == "rows" or not classes:
        return known != "rows" or output.shape[2] == 6
    return int(output.shape[1 if known == "ultralytics" else 2]) == classes + (4 if known == "ultralytics" else 5)


def _by_shape(model: LoadedModel, output: torch.Tensor, spec: InputSpec) -> str:
    """Tell by the two last axes: anchors are many, channels are few."""
    middle, last = int(output.shape[1]), int(output.shape[2])
    cells = sum(spec.height * spec.width // stride**2 for stride in (8, 16, 32))
    with_p6 = cells + spec.height * spec.width // 64**2
    if last == 6 and middle in (3 * cells, 3 * with_p6):
        return "yolov5"
    if last == 6 and middle <= _MOST_ROWS and middle != cells:
        return "rows"
    if middle >= 5 and last >= 2 * middle:
        return "ultralytics"
    if last >= 7 and middle >= 2 * last and middle not in (cells, with_p6):
        return "yolov5"
    several = "this fits rows and heads with objectness" if last == 6 else "this fits no known head for certain"
    if last >= 6 and middle in (cells, with_p6):
        several = "one row per grid cell, as YOLOX and transposed Ultralytics heads have it, is ambiguous"
    raise ModelLoadError(f"{model.path}: the model returned {describe(output)}: {several}. Remedy: {_REMEDY}")


def _make(name: str, output: torch.Tensor) -> Adapter:
    rows = output.float()
    if name == "ultralytics":
        return Ultralytics(max(1, int(output.shape[1]) - 4), _normalised(rows[:, :4]))
    if name == "yolov5":
        return Yolov5(max(1, int(output.shape[2]) - 5), _normalised(rows[..., :4]))
    if name == "rows":
        return Rows(_normalised(rows[rows[..., 4] > 0.0][:, :4] if output.shape[2] > 4 else rows))
    from pipeline.detectors.adapters.people import People  # its tables are not needed for any other model

    return People()


def _normalised(boxes: torch.Tensor) -> bool:
    """Whether no coordinate of any box leaves 0..1 by much: so small no box in pixels is."""
    return bool(boxes.numel()) and 0.0 < float(boxes.abs().amax()) <= 2.0


def _checked(adapter: Adapter, model: LoadedModel, outputs: Any, size: int) -> Adapter:
    try:
        adapter.check(outputs, size)
    except InferenceError as exc:
        raise ModelLoadError(f"{model.path}: the adapter {adapter.name} does not fit: {exc}") from exc
    return adapter
