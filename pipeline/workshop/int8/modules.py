# SPDX-License-Identifier: Apache-2.0
"""INT8 out of an ``nn.Module``, while it is exported."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch

from pipeline.detectors.torch_messages import one_line, quiet
from pipeline.errors import ModelError
from pipeline.workshop.int8.graph import Ranges, flatten, head_layers, quantize_program


def from_module(
    module: torch.nn.Module,
    batches: Sequence[torch.Tensor],
    *,
    float_heads: bool = True,
    ranges: Ranges = "histogram",
) -> torch.jit.ScriptModule:
    """Convert a module to INT8 while it is exported, by tracing it; it stays as it is.

    The way over FX (``prepare_fx``, ``convert_fx``) was tried too: the same operators come out, and it refuses modules
    with control flow that depends on data, which tracing takes.

    Args:
        module: takes one float tensor (B, 3, H, W); control flow is traced with the first batch.
        batches: typical inputs, at least one.
        float_heads: leave the last layer of each head in float: they cost little and say where boxes are.
        ranges: of activations.

    Returns:
        a frozen TorchScript program; it is run on the CPU.

    Raises:
        ModelError: it cannot be traced or converted.
    """
    if not batches:
        raise ModelError("no inputs were given; at least one batch is needed to find the ranges of activations")
    stored = io.BytesIO()
    try:
        with quiet(), torch.no_grad():
            traced = torch.jit.trace(module.eval(), (batches[0],), check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.save(traced, stored)
    except (RuntimeError, ValueError, TypeError) as exc:
        raise ModelError(f"the module cannot be traced: {one_line(exc)}") from exc
    data = stored.getvalue()

    def calibrate(prepared: torch.nn.Module) -> None:
        with torch.no_grad():
            for batch in batches:
                prepared(batch)

    keep = frozenset(head_layers(flatten(data))) if float_heads else frozenset()
    return quantize_program(data, calibrate, keep_float=keep, ranges=ranges)
