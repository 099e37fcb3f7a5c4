# SPDX-License-Identifier: Apache-2.0
"""TorchScript: from the bytes of a file to a module that is ready to run."""

from __future__ import annotations

import io
import logging
import re

import torch

from pipeline.detectors.loading.devices import keep_lists, move_constants
from pipeline.detectors.loading.preparing import prepare
from pipeline.detectors.loading.recipe import Recipe
from pipeline.detectors.loading.signature import Signature, read_signature
from pipeline.detectors.torch_messages import hush_int8, one_line
from pipeline.errors import ModelLoadError

_log = logging.getLogger(__name__)

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
        ModelLoadError: torch cannot load it, or it is not a detector.
    """
    if quantized:
        hush_int8()
    raw = _deserialise(data, device, name)
    if device.type == "cuda":
        keep_lists(raw)
        # TorchScript's fuser compiles for every new shape, which holds that batch up for half a second (an H100), and
        # gains little: convolutions are cuDNN's, and of launches, which it saves, CUDA graphs save more.
        torch._C._jit_set_texpr_fuser_enabled(False)
    moved = move_constants(raw, device)
    if moved:
        _log.info("%s: it was traced on another device; %d places in its program now name %s", name, moved, device)
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
