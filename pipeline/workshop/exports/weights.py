# SPDX-License-Identifier: Apache-2.0
"""Weights for a module: a state_dict from a file, read without running code, or torchvision's own download."""

from __future__ import annotations

import contextlib
import io
import pickle
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.detectors.torch_messages import one_line
from pipeline.errors import ModelError, ModelLoadError

_PATIENCE_S = 30.0
_NESTED = ("state_dict", "model", "model_state_dict", "ema")
_SHOWN = 3


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, of what ``torch.save(module.state_dict(), path)`` wrote; also below ``state_dict`` or ``model``.

    Raises:
        ModelLoadError: no such file, or it holds something else than tensors.
    """
    remedy = "save torch.save(module.state_dict(), FILE) in the program that trained it"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise ModelLoadError(f"{path}: no such weights file; DEFAULT, none or a file was expected") from exc
    except OSError as exc:
        raise ModelLoadError(f"{path}: the weights cannot be read: {exc.strerror or exc}") from exc
    except pickle.UnpicklingError as exc:
        raise ModelLoadError(f"{path}: this holds more than weights, and is not run. Remedy: {remedy}") from exc
    except (RuntimeError, ValueError, EOFError, KeyError, IndexError, AttributeError) as exc:
        raise ModelLoadError(f"{path}: these are not weights: {one_line(exc)}. Remedy: {remedy}") from exc
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(map(_named_tensor, content.items())):
        raise ModelLoadError(f"{path}: tensors by name (a state_dict) were expected. Remedy: {remedy}")
    return dict(content)


def load_weights(module: nn.Module, state: Mapping[str, torch.Tensor], name: str, expected: str) -> None:
    """Put all of ``state`` into ``module``; raises ModelLoadError where a name or a shape does not fit."""
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    foreign = [key for key in state if key not in own]
    other = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or foreign or other:
        found = "; ".join(
            f"{len(keys)} {what} ({', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''})"
            for what, keys in (("missing", missing), ("unknown", foreign), ("of another shape", other))
            if keys
        )
        raise ModelLoadError(f"{name}: these weights do not fit: {found}; {expected} is needed")
    module.load_state_dict(dict(state), strict=True)


@contextlib.contextmanager
def downloading(title: str, url: str) -> Iterator[None]:
    """Turn what fails in torchvision's loader into one line with the offline way; it waits 30 s for an answer at most.

    Raises:
        ModelError: there is no network, no space, or the download is damaged.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE_S)
    file = url.rpartition("/")[2]
    offline = (
        f"without network: get {url} elsewhere, and give it as --weights {file}; --weights none exports random weights"
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # torch.hub writes there what it downloads
            yield
    except OSError as exc:  # urllib's errors are among them
        reason = getattr(exc, "reason", None) or exc.strerror or exc
        raise ModelError(f"{title}: its weights cannot be downloaded: {reason}; {offline}") from exc
    except RuntimeError as exc:
        raise ModelError(f"{title}: its downloaded weights are damaged: {one_line(exc)}; {offline}") from exc
    finally:
        socket.setdefaulttimeout(before)


def _named_tensor(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], torch.Tensor)
