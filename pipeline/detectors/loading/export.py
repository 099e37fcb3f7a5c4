# SPDX-License-Identifier: Apache-2.0
"""torch.export archives (.pt2): from the bytes of a file to a module that is ready to run."""

from __future__ import annotations

import contextlib
import io
import logging
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

from pipeline.detectors.loading.call_spec import read_call_spec
from pipeline.detectors.loading.recipe import Recipe
from pipeline.detectors.loading.signature import Signature
from pipeline.detectors.loading.taken import Side, Taken
from pipeline.detectors.torch_messages import one_line
from pipeline.errors import ModelLoadError


class ExportedModule(torch.nn.Module):
    """An exported program. It has no modes: what it does was settled when it was exported."""

    def __init__(self, program: torch.nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, *given: Any) -> Any:
        """As the program; what it was not exported for raises."""
        # The program's own __call__ prints to the terminal when something raises.
        return torch.nn.Module.__call__(self.program, *given)

    def train(self, mode: bool = True) -> ExportedModule:
        """Nothing to change."""
        return self


def load_export(
    data: bytes, name: str, device: torch.device, recipe: Recipe
) -> tuple[torch.nn.Module, Signature, Taken]:
    """The module, how it is called, and what it was exported for.

    Args:
        data: the whole file, looked at by :func:`pipeline.detectors.loading.export_archive.read_export` before.
        name: how the messages call it.
        device: where it is to run.
        recipe: of which only the memory layout concerns an exported program.

    Raises:
        ModelLoadError: torch cannot load it, or it is not a detector.
    """
    if recipe.way != "as_is":
        raise ModelLoadError(f"{name}: {recipe.name} is not available for a torch.export program")
    _only_tensors(data, name)
    try:
        with silent_logs():
            program = torch.export.load(io.BytesIO(data))
            signature, pictures = _signature(program, name)
            taken = _taken(program, pictures, name)
            if device.type != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, device)
            module = program.module()
            if recipe.channels_last:
                module = module.to(memory_format=torch.channels_last)
    except ModelLoadError:
        raise
    except Exception as exc:
        raise ModelLoadError(
            f"{name}: torch {torch.__version__} cannot load this torch.export archive: {one_line(exc)}. "
            "Remedy: export it again with this version of torch"
        ) from exc
    return ExportedModule(module), signature, taken


@contextlib.contextmanager
def silent_logs() -> Iterator[None]:
    """Torch logs its warnings about exported programs instead of raising them."""
    log = logging.getLogger("torch")
    before = log.level
    log.setLevel(logging.CRITICAL)
    children = [each for key, each in logging.root.manager.loggerDict.items() if key.startswith("torch.")]
    loud = [each for each in children if isinstance(each, logging.Logger) and not each.disabled]
    for each in loud:
        each.disabled = True
    try:
        yield
    finally:
        log.setLevel(before)
        for each in loud:
            each.disabled = False


def _only_tensors(data: bytes, name: str) -> None:
    """Example inputs are pickled; torch would unpickle anything as soon as they are more than tensors."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if "data/sample_inputs/" in info.filename and info.file_size:
                try:
                    torch.load(io.BytesIO(archive.read(info)), weights_only=True)
                except Exception as exc:
                    raise ModelLoadError(
                        f"{name}: this torch.export archive is refused: its example inputs are more than tensors; "
                        "set example_inputs of the program to None and save it again"
                    ) from exc


def _signature(program: torch.export.ExportedProgram, name: str) -> tuple[Signature, int | None]:
    from torch.utils._pytree import treespec_dumps

    spec = program.call_spec.in_spec
    if spec is None:
        raise ModelLoadError(f"{name}: it does not say what it takes; export it again")
    return read_call_spec(treespec_dumps(spec), name)


def _taken(program: torch.export.ExportedProgram, pictures: int | None, name: str) -> Taken:
    first = program.graph_signature.user_inputs[0]
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name == first]
    if not values or not isinstance(values[0], torch.Tensor):
        raise ModelLoadError(f"{name}: its first input is not a tensor; pictures were expected")
    sides = tuple(_side(side, program) for side in values[0].shape)
    return Taken(sides, str(values[0].dtype).removeprefix("torch."), pictures)


def _side(side: int | torch.SymInt, program: torch.export.ExportedProgram) -> Side:
    if isinstance(side, int):
        return side
    limits = program.range_constraints.get(side.node.expr)
    if limits is None:
        return 0, None
    lower, upper = (limits.lower, limits.upper)
    most = int(upper) if getattr(upper, "is_Integer", False) or isinstance(upper, int) else None
    return (int(lower) if getattr(lower, "is_Integer", False) else 0), most
