# SPDX-License-Identifier: Apache-2.0
"""What a module's ``forward`` takes, and what a scripted detector's attributes tell; nothing is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pipeline.errors import ModelLoadError


@dataclass(frozen=True, slots=True)
class Signature:
    """How a module is called.

    Attributes:
        takes_list: a list of pictures (3, H, W) instead of one batch (B, 3, H, W).
        takes_sizes: a second tensor follows, the sizes that boxes are scaled to, as deployed RT-DETR models have it.
        size: (height, width) that a scripted torchvision model resizes to inside, or None.
        classes: number of classes of a scripted torchvision model, background included, or None.
    """

    takes_list: bool
    size: tuple[int, int] | None = None
    classes: int | None = None
    takes_sizes: bool = False


def read_signature(module: Any, name: str) -> Signature:
    """Look at the schema of ``forward``; before freezing, which takes the attributes away.

    Raises:
        ModelLoadError: no ``forward``, or one that takes neither a batch, nor a batch and sizes, nor a list.
    """
    forward = getattr(module, "forward", None)
    schema = getattr(forward, "schema", None)
    if schema is None:
        raise ModelLoadError(f"{name}: the TorchScript module has no forward(); a detector was expected")
    arguments = schema.arguments[1:]  # the first is the module itself, whatever its author called it
    needed = [argument for argument in arguments if not argument.has_default_value()]
    kinds = [str(argument.type) for argument in needed]
    if kinds == ["Tensor"]:
        return Signature(takes_list=False)
    if kinds == ["Tensor", "Tensor"]:
        return Signature(takes_list=False, takes_sizes=True)
    if kinds == ["List[Tensor]"]:
        return Signature(True, _inner_size(module), _inner_classes(module))
    shown = ", ".join(f"{argument.name}: {argument.type}" for argument in needed)
    raise ModelLoadError(
        f"{name}: forward({shown}) is not supported; forward(Tensor) with (B, 3, H, W), forward(Tensor, Tensor) "
        "with their sizes as RT-DETR has it, or forward(List[Tensor]) as scripted torchvision detectors have it, was "
        "expected. Remedy: wrap the model and export it again"
    )


def _inner_size(module: Any) -> tuple[int, int] | None:
    transform = getattr(module, "transform", None)
    fixed = getattr(transform, "fixed_size", None)  # (width, height), as torchvision stores it
    if fixed is not None:
        return int(fixed[1]), int(fixed[0])
    shortest = getattr(transform, "min_size", None)
    if isinstance(shortest, list | tuple) and shortest:
        return int(shortest[-1]), int(shortest[-1])
    return None


def _inner_classes(module: Any) -> int | None:
    """The number of classes where one of torchvision's heads keeps it."""
    head = getattr(getattr(module, "head", None), "classification_head", None)
    for attribute in ("num_columns", "num_classes"):
        value = getattr(head, attribute, None)
        if isinstance(value, int):
            return value
    predictor = getattr(getattr(module, "roi_heads", None), "box_predictor", None)
    weight = getattr(getattr(predictor, "cls_score", None), "weight", None)
    return int(weight.shape[0]) if isinstance(weight, torch.Tensor) else None
