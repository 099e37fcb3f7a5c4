# SPDX-License-Identifier: Apache-2.0
"""The signature of an exported or compiled program, from the call spec that torch keeps with it as JSON."""

from __future__ import annotations

import json
from typing import Any

from pipeline.detectors.loading.signature import Signature
from pipeline.errors import ModelLoadError


def read_call_spec(text: str, name: str) -> tuple[Signature, int | None]:
    """How the program is called, and of how many pictures its list must be if it takes one.

    Args:
        text: the structure of its inputs, as ``torch.utils._pytree.treespec_dumps`` writes it.
        name: how the messages call the model.

    Raises:
        ModelLoadError: it takes neither a batch, nor a batch and sizes, nor a list of pictures.
    """
    try:
        given, by_name = json.loads(text)[1]["children_spec"]
        positional = given["children_spec"]
        if not by_name["children_spec"]:
            if [child["type"] for child in positional] == [None]:
                return Signature(takes_list=False), None
            if [child["type"] for child in positional] == [None, None]:
                return Signature(takes_list=False, takes_sizes=True), None
            if [child["type"] for child in positional] == ["builtins.list"]:
                pictures = positional[0]["children_spec"]
                if pictures and all(child["type"] is None for child in pictures):
                    return Signature(takes_list=True), len(pictures)
        shown = ", ".join([*map(_shown, positional), *_keys(by_name)])
    except (ValueError, KeyError, IndexError, TypeError) as exc:
        raise ModelLoadError(f"{name}: what it takes cannot be read; export it again") from exc
    raise ModelLoadError(
        f"{name}: a program that takes ({shown}) is not supported; one tensor (B, 3, H, W), two tensors with their "
        "sizes as RT-DETR has it, or a list of pictures, was expected. Remedy: wrap the model and export it again"
    )


def _shown(child: dict[str, Any]) -> str:
    return "Tensor" if child["type"] is None else str(child["type"]).removeprefix("builtins.")[:40]


def _keys(by_name: dict[str, Any]) -> list[str]:
    return [f"{key}=" for key in json.loads(by_name["context"])]
