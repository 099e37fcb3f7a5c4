# SPDX-License-Identifier: Apache-2.0
"""A model that returns NaN or infinite values for real pictures, and which kind of input would cure it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pipeline.detectors.engine import TorchScriptDetector
from pipeline.errors import InferenceError
from pipeline.frame import Item
from pipeline.workshop.doctor.finding import Finding
from pipeline.workshop.doctor.watching import Watched, tensors
from pipeline.workshop.frames import detect
from pipeline.workshop.swapping import running

_MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
_STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)

# What detectors expect, made from what the pipeline feeds by default (0..1).
_OTHERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "normalised by ImageNet's mean and standard deviation": lambda x: (x - _MEAN.to(x)) / _STD.to(x),
    "in -1..1": lambda x: x * 2.0 - 1.0,
    "in 0..255": lambda x: x * 255.0,
}


def outputs_are_finite(detector: TorchScriptDetector, inputs: Sequence[Item]) -> Finding | None:
    """Run real pictures and look at the raw outputs; where they are bad, try other kinds of input."""
    bad, total = _count(detector, inputs, lambda given: given)
    if not bad:
        return None
    info = detector.model_info()
    weights = _weights_are_bad(detector.program)
    cures = [] if weights else [name for name, change in _OTHERS.items() if not _count(detector, inputs, change)[0]]
    if weights:
        remedy = "its weights hold NaN or infinite values: training diverged; take an earlier checkpoint"
    elif cures:
        remedy = f"its outputs are finite for input {cures[0]}: export it with that step inside the model"
    else:
        remedy = (
            "no usual kind of input cures it: run it in fp32 (model.precision), export it again, and look for log, "
            "sqrt or division by zero in it"
        )
    return Finding(
        "not_finite",
        "fault",
        f"{info['path']}: {bad:,} of {total:,} output values are NaN or infinite for {len(inputs)} real pictures",
        remedy,
    )


def _count(
    detector: TorchScriptDetector, inputs: Sequence[Item], change: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[int, int]:
    """Bad values, and all values."""
    bad = total = 0

    def look(outputs: Any) -> None:
        nonlocal bad, total
        for found in tensors(outputs):
            bad += found.numel() - int(torch.isfinite(found).sum())
            total += found.numel()

    try:
        with running(detector, Watched(detector.program, look, change)):
            detect(detector, inputs)
    except InferenceError:
        if not total:  # it raised by itself: this kind of input is no cure
            return 1, 1
    return bad, total


def _weights_are_bad(program: Any) -> bool:
    """Whether a parameter or, in a frozen program, a constant of more than one value holds NaN or infinite values.

    A single one may be meant so (a bound, a mask).
    """
    found = list(program.state_dict().values())
    if isinstance(program, torch.jit.ScriptModule):
        graph: Any = program.inlined_graph
        constants = graph.findAllNodes("prim::Constant")
        found += [node.t("value") for node in constants if node.hasAttribute("value") and node.kindOf("value") == "t"]
    floats = [value for value in found if value.is_floating_point() and value.numel() > 1]
    return any(not bool(torch.isfinite(value).all()) for value in floats)
