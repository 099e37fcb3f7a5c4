# SPDX-License-Identifier: Apache-2.0
"""Models that are part of this program, by name."""

from __future__ import annotations

import difflib

import torch

from pipeline.detectors.loading.load import LoadedModel
from pipeline.detectors.loading.metadata import Metadata
from pipeline.detectors.loading.preparing import prepare
from pipeline.detectors.loading.recipe import DEFAULT, Recipe
from pipeline.detectors.loading.signature import Signature
from pipeline.detectors.torch_messages import quiet
from pipeline.errors import ModelLoadError

PREFIX = "builtin:"
_KNOWN = ("people",)


def load_builtin(model: str, sha256: str | None, device: torch.device, recipe: Recipe = DEFAULT) -> LoadedModel:
    """Build ``builtin:NAME``.

    Raises:
        ModelLoadError: there is no such model, or a digest is given for something that has no file.
    """
    name = model.removeprefix(PREFIX)
    if name not in _KNOWN:
        near = difflib.get_close_matches(name, _KNOWN, n=1)
        hint = (
            f"did you mean {PREFIX}{near[0]}?" if near else f"there is {', '.join(PREFIX + known for known in _KNOWN)}"
        )
        raise ModelLoadError(f"there is no built-in model {model}; {hint}")
    if sha256 is not None:
        raise ModelLoadError(f"{model}: it is part of this program and has no file to compare; leave model.sha256 out")
    from pipeline.detectors.people import INPUT_HEIGHT, INPUT_WIDTH, build_people  # compiling it takes a while

    with quiet():
        module = prepare(build_people().to(device), recipe)
    facts = Metadata(adapter="people", names={0: "person"}, size=(INPUT_HEIGHT, INPUT_WIDTH), source=model)
    return LoadedModel(model, module, "", facts, Signature(takes_list=False), format="builtin")
