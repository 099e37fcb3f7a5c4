# SPDX-License-Identifier: Apache-2.0
"""Where a module to export comes from: one of torchvision's detectors by name, or a factory in a module of the user."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.detectors.torch_messages import one_line, quiet
from pipeline.errors import ModelError, UsageError
from pipeline.workshop.exports.weights import downloading, load_weights, read_weights

_SEED = 0


@dataclass(frozen=True, slots=True)
class Origin:
    """A module in evaluation mode on the CPU.

    Attributes:
        module: what is exported.
        title: such as ``torchvision ssdlite320_mobilenet_v3_large``.
        weights: ``DEFAULT``, ``none`` (random), ``own`` (as the factory made them), or a path.
        names: class names by class id, where the weights come with some.
        remarks: for the user, one line each.
    """

    module: nn.Module
    title: str
    weights: str
    names: dict[int, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def resolve(what: str, weights: str | None, num_classes: int | None) -> Origin:
    """Make the module. A factory is code of the user: it is imported, also from the working folder, and called.

    Args:
        what: a name of torchvision's, or ``package.module:factory``.
        weights: ``DEFAULT``, ``none`` or the path of a state_dict; None is DEFAULT for torchvision, ``none`` else.
        num_classes: of a torchvision detector, background included; None is that of the weights.

    Raises:
        UsageError: no such name, module or factory, or options that do not fit.
        ModelError: the factory, the download or the loading of weights failed.
        ModelLoadError: the weights are none, or do not fit.
    """
    with quiet():
        if ":" in what:
            if num_classes is not None:
                raise UsageError("--num-classes is for torchvision's detectors; a factory makes its own classes")
            return _from_factory(what, weights)
        return _from_torchvision(what, weights or "DEFAULT", num_classes)


def evaluating(module: nn.Module, title: str) -> nn.Module:
    """The module in evaluation mode, without gradients; raises ModelError where it will not leave training mode."""
    module = module.eval().requires_grad_(False)
    stuck = next((name for name, part in module.named_modules() if part.training), None)
    if stuck is not None:
        part = stuck or "it"
        raise ModelError(f"{title}: {part} stays in training mode after eval(); let its train() take over the mode")
    return module


def _from_torchvision(name: str, weights: str, num_classes: int | None) -> Origin:
    try:
        from torchvision.models import detection, get_model_builder, get_model_weights, list_models
    except (ImportError, RuntimeError, AttributeError) as exc:
        raise ModelError(f"torchvision does not work with torch {torch.__version__}: {one_line(exc)}") from exc
    known = list_models(module=detection)
    wanted = name.lower()
    if wanted not in known:
        if wanted in list_models():
            raise UsageError(f"{name}: torchvision has it, but not as a detector; expected one of {', '.join(known)}")
        near = difflib.get_close_matches(wanted, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}, or package.module:factory"
        raise UsageError(f"{name}: torchvision has no such detector; {hint}")
    build: Callable[..., nn.Module] = get_model_builder(wanted)
    title = f"torchvision {wanted}"
    classes = {} if num_classes is None else {"num_classes": num_classes}
    if weights.upper() == "DEFAULT":
        if num_classes is not None:
            raise UsageError(
                "--num-classes does not fit --weights DEFAULT, whose classes are given; leave one of them out"
            )
        chosen = get_model_weights(wanted).DEFAULT
        with downloading(title, str(chosen.url)):
            module = build(weights=chosen, progress=False)
        names = {index: label for index, label in enumerate(chosen.meta["categories"]) if index and label != "N/A"}
        return Origin(evaluating(module, title), title, "DEFAULT", names)
    state = None if weights.lower() == "none" else read_weights(Path(weights))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)  # the same weights at every export
        # Without weights_backbone=None torchvision downloads those of the backbone.
        module = build(weights=None, weights_backbone=None, **classes)
    if state is not None:
        load_weights(module, state, weights, "another --num-classes, or the detector that they were trained for")
    module = evaluating(module, title)
    remarks = () if state is not None else (f"{title}: its weights are random; it finds nothing sensible",)
    return Origin(module, title, "none" if state is None else weights, {}, remarks)


def _from_factory(what: str, weights: str | None) -> Origin:
    if weights is not None and weights.upper() == "DEFAULT":
        raise UsageError("--weights DEFAULT is for torchvision's detectors; a factory loads its own, or give a FILE")
    state = None if weights in (None, "none") else read_weights(Path(str(weights)))
    with _importable(os.getcwd()):  # until it returned: a factory may import its neighbours
        module = _made(what, _attribute(what))
    if state is not None:
        load_weights(module, state, str(weights), "the weights of this module")
    module = evaluating(module.cpu(), what)
    return Origin(module, what, "own" if state is None else str(weights), _names_of(module))


@contextlib.contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Modules are found in ``folder`` too."""
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


def _attribute(what: str) -> Any:
    path, _, name = what.partition(":")
    if not all(word.isidentifier() for word in [*path.split("."), *name.split(".")]):
        raise UsageError(f"{what}: package.module:factory was expected")
    try:
        value = importlib.import_module(path)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (path == exc.name or path.startswith(f"{exc.name}.")):
            raise UsageError(f"{what}: there is no module {exc.name}, neither installed nor in {os.getcwd()}") from exc
        raise ModelError(f"{what}: importing {path} failed: {one_line(exc)}") from exc
    except Exception as exc:
        raise ModelError(f"{what}: importing {path} failed: {type(exc).__name__}: {one_line(exc)}") from exc
    for word in name.split("."):
        if not hasattr(value, word):
            near = difflib.get_close_matches(word, dir(value), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{what}: {path} has no {word}{hint}")
        value = getattr(value, word)
    return value


def _made(what: str, factory: Any) -> nn.Module:
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise UsageError(
            f"{what}: this is a {type(factory).__name__}; a function that returns a torch.nn.Module was expected"
        )
    try:
        module = factory()
    except Exception as exc:
        raise ModelError(f"{what}: calling it failed: {type(exc).__name__}: {one_line(exc)}") from exc
    if not isinstance(module, nn.Module):
        raise ModelError(f"{what}: it returned a {type(module).__name__}; a torch.nn.Module was expected")
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(f"{what}: it returned TorchScript already; save it with torch.jit.save")
    return module


def _names_of(module: nn.Module) -> dict[int, str]:
    """``module.names``, a list or a dict by class id, as many detectors have it."""
    names = getattr(module, "names", None)
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        return {key: str(label) for key, label in names.items()}
    if isinstance(names, list | tuple) and all(isinstance(label, str) for label in names):
        return dict(enumerate(names))
    return {}
