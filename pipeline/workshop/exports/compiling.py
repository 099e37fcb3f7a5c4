# SPDX-License-Identifier: Apache-2.0
"""From a module to TorchScript: traced or scripted, chosen by what its control flow depends on."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.jit._trace import TracerWarning

from pipeline.detectors.torch_messages import one_line, quiet
from pipeline.errors import ModelError, UsageError

Method = Literal["auto", "trace", "script"]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A TorchScript module.

    Attributes:
        module: it.
        method: how it was made.
        why: the reason for this method, one line.
        remarks: for the user, one line each.
    """

    module: torch.jit.ScriptModule
    method: Literal["trace", "script"]
    why: str
    remarks: tuple[str, ...] = ()


def takes_list(module: nn.Module) -> bool:
    """Whether ``forward`` says that it takes a list of pictures, as torchvision's detectors do."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    shown = str(parameters[0].annotation if parameters else "").lower().replace("typing.", "")
    return shown.startswith(("list[", "sequence[", "<class 'list'")) or "list[torch.tensor]" in shown


def compiled(module: nn.Module, method: Method, example: Any) -> Compiled:
    """Trace or script a module.

    Tracing records one run: a decision that depends on the data is kept as it fell, which torch warns of. So ``auto``
    scripts where there is such a warning or a list of pictures, and traces everything else.

    Args:
        module: in evaluation mode.
        method: ``auto`` chooses.
        example: (B, 3, H, W) float32, or a list of (3, H, W).

    Raises:
        UsageError: a list of pictures cannot be traced.
        ModelError: torch cannot make TorchScript of it.
    """
    if isinstance(example, list):
        if method == "trace":
            raise UsageError(
                "--method trace: its forward takes a list of pictures, which only scripting keeps; use script"
            )
        why = "its forward takes a list of pictures" if method == "auto" else "it was asked for"
        return Compiled(_scripted(module), "script", why)
    if method == "script":
        return Compiled(_scripted(module), "script", "it was asked for")
    traced, decisions = _traced(module, example)
    if method == "trace":
        remarks = (f"it decides by its data, and tracing kept one way only: {decisions[0]}",) if decisions else ()
        return Compiled(traced, "trace", "it was asked for", remarks)
    if not decisions:
        return Compiled(traced, "trace", "no decision in it depends on the data")
    try:
        return Compiled(_scripted(module), "script", f"it decides by its data: {decisions[0]}")
    except ModelError as exc:
        remark = f"it may decide by its data ({decisions[0]}), but {exc}: it was traced; other data may fail"
        return Compiled(traced, "trace", "it cannot be scripted", (remark,))


def _traced(module: nn.Module, example: Any) -> tuple[torch.jit.ScriptModule, list[str]]:
    """The recording of one run, and where Python decided something by the data."""
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        try:
            traced = torch.jit.trace(module, (example,), check_trace=False, strict=False)  # type: ignore[no-untyped-call]
        except Exception as exc:
            raise ModelError(f"it cannot be traced: {one_line(exc)}") from exc
    decisions = []
    for warning in caught:
        if issubclass(warning.category, TracerWarning):
            what = str(warning.message).partition(" might ")[0].partition(". ")[0]
            decisions.append(f"{what[:1].lower()}{what[1:]} at {warning.filename.rpartition('/')[2]}:{warning.lineno}")
    return traced, decisions


def _scripted(module: nn.Module) -> torch.jit.ScriptModule:
    with quiet():
        try:
            scripted: torch.jit.ScriptModule = torch.jit.script(module)
        except Exception as exc:
            raise ModelError(f"it cannot be scripted: {one_line(exc)}") from exc
    return scripted
