# SPDX-License-Identifier: Apache-2.0
"""Which adapter fits a model: the user's word, else its signature, else its metadata, else the shape of its outputs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.detectors.adapter import Adapter, describe
from pipeline.detectors.adapters import ADAPTERS, Family
from pipeline.detectors.adapters.tensors import first_tensor
from pipeline.detectors.loading.load import LoadedModel
from pipeline.detectors.plugins import installed, load_plugin
from pipeline.detectors.preprocessing import Preprocessing
from pipeline.detectors.shapes import Unclear, tell
from pipeline.errors import ConfigError, InferenceError, ModelLoadError
from pipeline.frame import InputSpec

_OFFERED = [name for name in ADAPTERS if name not in ("people", "torchvision")]
_REMEDY = f"set model.adapter to one of {', '.join(_OFFERED)} or to one of your own, or export the model with metadata"
# Channels beside those of the classes, by axis: what the metadata's names must agree with.
_BESIDE = {"ultralytics": (1, 4), "yolov5": (2, 5), "yolox": (2, 5)}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says about a model.

    Attributes:
        adapter: name of a family, of an entry point, or ``package.module:factory``; None: to be recognised.
        options: of the adapter; they come before those in the file's metadata.
        input_spec: what of the input differs, see :meth:`pipeline.detectors.preprocessing.Preprocessing.overlaid`.
        classes: how many class names are configured.
    """

    adapter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    input_spec: Mapping[str, Any] = field(default_factory=dict)
    classes: int = 0


def known_before_running(model: LoadedModel, wanted: Wanted) -> Family | None:
    """The family as far as configuration, signature and metadata tell, in this order.

    Raises:
        ModelLoadError: an adapter of that name does not exist, or cannot feed this model.
    """
    if not model.digest and wanted.adapter not in (None, model.metadata.adapter):
        described = f"the adapter {wanted.adapter!r} does not fit a built-in model"
        raise ModelLoadError(f"{model.path}: {described}; leave it out")
    name = wanted.adapter or _by_signature(model) or model.metadata.adapter
    if name is None:
        return None
    # A module to import is for the user to name, not for a file that came from somewhere.
    family = ADAPTERS.get(name)
    if family is None and (wanted.adapter or ":" not in name):
        family = load_plugin(name, _options(model, wanted))
    if family is None:
        known = [*ADAPTERS, *installed()]
        near = difflib.get_close_matches(name, known, n=1)
        wish = f"one of {', '.join(known)}, or package.module:factory, was expected"
        hint = f"did you mean {near[0]}?" if near else wish
        raise ModelLoadError(f"{model.path}: there is no adapter {name!r}; {hint}")
    if family.takes_list not in (None, model.signature.takes_list):
        takes = "a list of pictures" if model.signature.takes_list else "one tensor"
        raise ModelLoadError(f"{model.path}: the adapter {name} does not fit, because forward() takes {takes}")
    return family


def preprocessing_of(model: LoadedModel, family: Family | None, wanted: Wanted) -> Preprocessing:
    """What the network is to be given: the user's word, else its metadata, else what its family usually wants.

    Raises:
        ModelLoadError: the metadata say what cannot be.
        ConfigError: the user does.
    """
    rules = family.preprocessing if family is not None else Preprocessing()
    facts = dict(model.metadata.input_spec)
    if model.metadata.stride > 1:
        facts.setdefault("stride", model.metadata.stride)
    try:
        rules = rules.overlaid(facts)
    except ValueError as exc:
        faults = "; ".join(str(exc).splitlines())
        raise ModelLoadError(f"{model.path}: input_spec in its metadata: {faults}; export it again") from exc
    if wanted.input_spec and not model.digest:
        raise ModelLoadError(f"{model.path}: its input is fixed; leave model.input_spec out")
    try:
        return rules.overlaid(wanted.input_spec)
    except ValueError as exc:
        raise ConfigError([f"model.input_spec.{fault}" for fault in str(exc).splitlines()]) from exc


def settled(
    model: LoadedModel, wanted: Wanted, known: Family | None, outputs: Any, size: int, spec: InputSpec
) -> Family:
    """The family, from the outputs of a first run where nothing else tells, or where metadata and outputs disagree.

    Args:
        model: what was loaded.
        wanted: the adapter that the user asks for is not doubted as long as the shapes allow it.
        known: what :func:`known_before_running` told.
        outputs: what the network returned.
        size: how many pictures it was shown.
        spec: size of the pictures.

    Raises:
        ModelLoadError: the outputs do not fit, or fit several families; shapes are printed.
    """
    if known is not None and (wanted.adapter or _by_signature(model) or _agrees(model, known, outputs)):
        return known
    try:
        told = tell(outputs, size, spec, len(model.metadata.names) or wanted.classes)
    except Unclear as exc:
        raise ModelLoadError(f"{model.path}: the model returned {exc}. Remedy: {_REMEDY}") from exc
    if known is not None and told == known.name:
        raise ModelLoadError(
            f"{model.path}: its metadata name {len(model.metadata.names)} classes, but the model returned "
            f"{describe(outputs)}. Remedy: {_REMEDY}"
        )
    return ADAPTERS[told]


def fit_adapter(
    model: LoadedModel, family: Family, wanted: Wanted, outputs: Any, size: int, spec: InputSpec
) -> Adapter:
    """Make the adapter for a model from the outputs of a run with the right preprocessing.

    Raises:
        ModelLoadError: the outputs, or the options, do not fit the family; shapes are printed.
    """
    try:
        adapter = family.make(outputs, spec, _options(model, wanted))
        adapter.check(outputs, size)
    except InferenceError as exc:
        raise ModelLoadError(f"{model.path}: the adapter {family.name} does not fit: {exc}") from exc
    except ValueError as exc:
        raise ModelLoadError(f"{model.path}: the adapter {family.name}: {exc}") from exc
    return adapter


def _by_signature(model: LoadedModel) -> str | None:
    """Only torchvision's detectors take lists, and only RT-DETR and its relatives take sizes."""
    if model.signature.takes_list:
        return "torchvision"
    return "rtdetr" if model.signature.takes_sizes else None


def _options(model: LoadedModel, wanted: Wanted) -> dict[str, Any]:
    return {**model.metadata.adapter_options, **wanted.options}


def _agrees(model: LoadedModel, known: Family, outputs: Any) -> bool:
    """Whether the outputs have as many channels as the metadata, which named the adapter, name classes."""
    if known.name not in (*_BESIDE, "rows"):
        return True
    output = first_tensor(outputs)
    if not isinstance(output, torch.Tensor) or output.dim() != 3:
        return False
    classes = len(model.metadata.names)
    if known.name == "rows":
        return output.shape[2] == 6
    axis, beside = _BESIDE[known.name]
    return not classes or int(output.shape[axis]) == classes + beside
