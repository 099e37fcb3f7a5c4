# SPDX-License-Identifier: Apache-2.0
"""TorchScript: from the bytes of a file to a module that is ready to run."""

from __future__ import annotations

import io
import re

import torch

from pipeline.detectors.loading.preparing import prepare
from pipeline.detectors.loading.recipe import Recipe
from pipeline.detectors.loading.signature import Signature, read_signature
from pipeline.detectors.wording import hush_int8, one_line
from pipeline.errors import ModelLoadError

_UNKNOWN_OPERATOR = re.compile(r"Unknown builtin op: ([\w:]+)")


def load_torchscript(
    data: bytes, name: str, device: torch.device, recipe: Recipe, *, quantized: bool, package: bytes | None = None
) -> tuple[torch.nn.Module, Signature]:
    """The module, made ready as the recipe says, and what its ``forward`` takes.

    Args:
        data: the whole file.
        name: how the messages call it.
        device: where its tensors go.
        recipe: how it is made ready.
        quantized: its code calls quantised operators.
        package: the whole of the recipe's package, if it names one.

    Raises:
        ModelLoadError: torch cannot load it, or it is no detector.
    """
    if quantized:
        hush_int8()
    raw = _deserialise(data, device, name)
    signature = read_signature(raw, name)
    return prepare(raw, recipe, package), signature


def _deserialise(data: bytes, device: torch.device, name: str) -> torch.jit.ScriptModule:
    try:
        module: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(data), map_location=device)  # type: ignore[no-untyped-call]
    except Exception as exc:
        unknown = _UNKNOWN_OPERATOR.search(str(exc))
        if unknown:
            operator = unknown.group(1)
            others = "; also torchvision must fit torch" if operator.startswith("torchvision::") else ""
            raise ModelLoadError(
                f"{name}: it needs the operator {operator}, which torch {torch.__version__} does not have{others}; "
                "export it without that operator, or with a matching version"
            ) from exc
        raise ModelLoadError(f"{name}: torch {torch.__version__} cannot load it: {one_line(exc)}") from exc
    return module
