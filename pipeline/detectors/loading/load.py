# SPDX-License-Identifier: Apache-2.0
"""From a path to a module that is ready to run: read once, compared with its pin, looked at, loaded by its format."""

from __future__ import annotations

import hashlib
import logging
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pipeline.detectors.loading.archive import Archive, read_archive
from pipeline.detectors.loading.formats import ModelFormat
from pipeline.detectors.loading.metadata import Metadata, read_metadata
from pipeline.detectors.loading.opening import open_regular
from pipeline.detectors.loading.operators import suppress_operator
from pipeline.detectors.loading.recipe import DEFAULT, Recipe
from pipeline.detectors.loading.signature import Signature
from pipeline.detectors.loading.taken import with_taken
from pipeline.detectors.torch_messages import quiet
from pipeline.errors import ModelLoadError
from pipeline.host.nearby import meant

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A module that is ready to run.

    Attributes:
        path: as it was given.
        module: in evaluation mode, made ready by a :class:`~pipeline.detectors.loading.recipe.Recipe`.
        digest: SHA-256 of the file, 64 hexadecimal digits; empty for a built-in model.
        metadata: what the file says about itself.
        signature: what its ``forward`` takes, and what its attributes tell.
        quantized: it computes in int8.
        format: of its file; ``builtin`` where there is none.
    """

    path: str
    module: torch.nn.Module
    digest: str
    metadata: Metadata
    signature: Signature
    quantized: bool = False
    format: ModelFormat | Literal["builtin"] = "torchscript"


def load_model(
    path: str | Path, sha256: str | None = None, device: torch.device | None = None, recipe: Recipe = DEFAULT
) -> LoadedModel:
    """Load a model file of any format. It is a program: loading it runs code of its author.

    Args:
        path: the file.
        sha256: expected digest of the file, 64 hexadecimal digits, or None for any.
        device: where its tensors go; the CPU unless given.
        recipe: how it is made ready. Where that names a quantised copy, the copy is loaded in place of the file.

    Raises:
        ModelLoadError: the file cannot be read, anybody may change it and it is not pinned, it is not what was pinned,
            or it is not a detector that torch can load.
    """
    name = str(path)
    data = _pinned(Path(path), name, sha256)
    digest = hashlib.sha256(data).hexdigest()
    package = None
    if recipe.file is not None:
        made = _read(Path(recipe.file), recipe.file, recipe.sha256)
        _compare(hashlib.sha256(made).hexdigest(), recipe.sha256, recipe.file)
        data, package = (data, made) if recipe.way == "aotinductor" else (made, None)
    archive = read_archive(data, name)
    metadata = read_metadata(archive.side_files, name)
    with quiet():
        suppress_operator()  # a model may contain torchvision's operators: they must be registered first
        device = device or torch.device("cpu")
        module, signature, metadata = _loaded(archive, data, package, name, device, recipe, metadata)
    if sha256 is None:
        _log.info("%s: SHA-256 is %s; the file is a program: pin it as model.sha256 to run no other", name, digest)
    return LoadedModel(name, module, digest, metadata, signature, archive.quantized, archive.format)


def read_model(path: str | Path, sha256: str | None = None) -> tuple[bytes, Archive]:
    """A model file's bytes and what kind of file it is, by the rules of :func:`load_model`; nothing of it is run.

    Raises:
        ModelLoadError: as :func:`load_model`.
    """
    data = _pinned(Path(path), str(path), sha256)
    return data, read_archive(data, str(path))


def _loaded(
    archive: Archive,
    data: bytes,
    package: bytes | None,
    name: str,
    device: torch.device,
    recipe: Recipe,
    metadata: Metadata,
) -> tuple[torch.nn.Module, Signature, Metadata]:
    """By the loader of the file's format, which is imported when it is needed."""
    if archive.format == "torchscript":
        from pipeline.detectors.loading.torchscript import load_torchscript

        module, signature = load_torchscript(data, name, device, recipe, quantized=archive.quantized, package=package)
        return module, signature, metadata
    if archive.format == "torch.export":
        from pipeline.detectors.loading.export import load_export as load
    else:
        from pipeline.detectors.loading.aotinductor import load_aotinductor as load
    module, signature, taken = load(data, name, device, recipe)
    return module, signature, with_taken(metadata, taken, name)


def _read(path: Path, name: str, sha256: str | None) -> bytes:
    """All bytes of the file, unless anybody may change it and nothing says what it must be; through one descriptor."""
    try:
        with open_regular(path, name) as (file, status):
            data = file.read()
    except FileNotFoundError as exc:
        raise ModelLoadError(f"{name}: no such model file{_similar(path)}") from exc
    except IsADirectoryError as exc:
        raise ModelLoadError(f"{name}: this is a directory; a model file was expected{_inside(path)}") from exc
    except OSError as exc:
        raise ModelLoadError(f"{name}: the model file cannot be read: {exc.strerror or exc}") from exc
    if status.st_mode & stat.S_IWOTH and sha256 is None:
        raise ModelLoadError(
            f"{name}: every user of this machine can change this program; remedy: chmod o-w {name}, "
            "or pin its content as model.sha256"
        )
    return data


def _pinned(path: Path, name: str, sha256: str | None) -> bytes:
    data = _read(path, name, sha256)
    _compare(hashlib.sha256(data).hexdigest(), sha256, name)
    return data


def _similar(path: Path) -> str:
    if path.name in ("people", "people.pt"):
        return "; the built-in model is called builtin:people"
    if not path.parent.is_dir():
        return f": there is no readable folder {path.parent}"
    return meant(path, folders=False)


def _inside(path: Path) -> str:
    found = sorted(path.glob("*.torchscript")) or sorted(path.glob("*.pt"))
    return f"; did you mean {found[0]}?" if found else ""


def _compare(digest: str, pinned: str | None, name: str) -> None:
    if pinned is None:
        return
    expected = pinned.strip().lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise ModelLoadError(f"{name}: sha256 is {pinned!r}; 64 hexadecimal digits were expected (`sha256sum {name}`)")
    if digest != expected:
        raise ModelLoadError(
            f"{name}: the file's SHA-256 is {digest}, but {expected} is pinned; "
            "get the right file, or change model.sha256 if the new one is meant"
        )
