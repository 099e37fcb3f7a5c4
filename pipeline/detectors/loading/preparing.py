# SPDX-License-Identifier: Apache-2.0
"""A loaded program made ready as a recipe says: layout, constants, packed weights, or another compiler's program."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import torch

from pipeline.detectors.loading.graphs import Graphed
from pipeline.detectors.loading.recipe import DEFAULT, Recipe
from pipeline.detectors.torch_messages import one_line, quiet
from pipeline.errors import ModelLoadError

_log = logging.getLogger(__name__)

_FAILURES = (RuntimeError, AttributeError, ValueError, NotImplementedError)


class Specialised(torch.nn.Module):
    """One program for inputs of one shape, another for all others."""

    def __init__(self, shape: tuple[int, ...], special: Callable[..., Any], general: torch.nn.Module) -> None:
        super().__init__()
        self.shape = shape
        self.general = general
        self._special = special

    def forward(self, *given: Any) -> Any:
        """By the shape of the first argument."""
        if isinstance(given[0], torch.Tensor) and tuple(given[0].shape) == self.shape:
            return self._special(*given)
        return self.general(*given)


def prepare(module: torch.nn.Module, recipe: Recipe = DEFAULT, package: bytes | None = None) -> torch.nn.Module:
    """Evaluation mode, and what the recipe says.

    Layout and freezing are left out where the module does not allow them: an already frozen module has no mode,
    quantised weights have no layout.

    Args:
        module: as it was loaded.
        recipe: what is done to it.
        package: the whole of the recipe's file where its ``way`` is ``aotinductor``: what was compared with its digest
            is what is loaded, whatever its path names by now.

    Raises:
        ModelLoadError: the recipe's ``way`` is not available for this module, or here.
    """
    with quiet():
        raw = module.eval()
        module = raw
        if recipe.channels_last:
            module = _tried(_channels_last, module)
        if recipe.frozen:
            module = _tried(torch.jit.freeze, module)
        if recipe.way == "as_is":
            return module
        if recipe.shape is None:
            raise ModelLoadError(f"{recipe.name}: it serves one input shape, and none was given")
        try:
            special = _WAYS[recipe.way](raw, module, recipe, package)
        except Exception as exc:
            raise ModelLoadError(f"{recipe.name} is not available: {one_line(exc)}") from exc
    return Specialised(recipe.shape, special, module)


def exported(module: torch.nn.Module, shape: tuple[int, ...]) -> Any:
    """The TorchScript program as a torch.export.ExportedProgram for one input shape, through torch's own converter.

    torch.compile and AOTInductor take no TorchScript. The converter is a private module of torch: whatever it raises
    means that this model, or this torch, does not allow it.
    """
    from torch._export.converter import TS2EPConverter

    example = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    return TS2EPConverter(copy.deepcopy(module), (example,)).convert()  # type: ignore[arg-type]


def _channels_last(module: torch.nn.Module) -> torch.nn.Module:
    return module.to(memory_format=torch.channels_last)


def _tried(step: Callable[[Any], Any], module: torch.nn.Module) -> torch.nn.Module:
    try:
        done: torch.nn.Module = step(module)
    except _FAILURES as exc:
        _log.debug("left out: %s: %s", getattr(step, "__name__", step), one_line(exc))
        return module
    return done


def _optimized(
    raw: torch.nn.Module, module: torch.nn.Module, recipe: Recipe, package: bytes | None
) -> Callable[..., Any]:
    """Weights are packed for one input shape; the general program keeps its own."""
    made: Callable[..., Any] = torch.jit.optimize_for_inference(copy.deepcopy(module))  # type: ignore[arg-type]
    return made


def _compiled(
    raw: torch.nn.Module, module: torch.nn.Module, recipe: Recipe, package: bytes | None
) -> Callable[..., Any]:
    assert recipe.shape is not None
    return torch.compile(exported(raw, recipe.shape).module(), dynamic=False)


def _packaged(
    raw: torch.nn.Module, module: torch.nn.Module, recipe: Recipe, package: bytes | None
) -> Callable[..., Any]:
    from pipeline.detectors.loading.aotinductor import load_package

    if package is None:
        raise ValueError("there is no package")
    return load_package(package, str(recipe.file), torch.device("cpu"))  # packages are compiled for CPUs only


def _graphed(
    raw: torch.nn.Module, module: torch.nn.Module, recipe: Recipe, package: bytes | None
) -> Callable[..., Any]:
    if not torch.cuda.is_available():
        raise ValueError("there is no GPU")
    return Graphed(module)


_WAYS: dict[str, Callable[[torch.nn.Module, torch.nn.Module, Recipe, bytes | None], Callable[..., Any]]] = {
    "optimized": _optimized,
    "compiled": _compiled,
    "aotinductor": _packaged,
    "cuda_graph": _graphed,
}
