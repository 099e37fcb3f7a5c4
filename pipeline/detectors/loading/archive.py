# SPDX-License-Identifier: Apache-2.0
"""A static look into a model file: its format, and which side files came along. Nothing of it is run."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from pipeline.detectors.loading.export_archive import read_export
from pipeline.detectors.loading.file_access import file_access
from pipeline.detectors.loading.formats import (
    LEGACY,
    OTHER_FILE,
    ModelFormat,
    describe_foreign,
    describe_zip,
    format_of,
)
from pipeline.detectors.loading.members import DAMAGE, read_by_torch
from pipeline.errors import ModelLoadError

_LONGEST_SIDE_FILE = 1 << 20
_LONGEST_CODE = 64 << 20
_OPERATOR = re.compile(r"\bops\.([A-Za-z_]\w*)\.([A-Za-z_]\w*)\(")


@dataclass(frozen=True, slots=True)
class Archive:
    """What a model file holds.

    Attributes:
        format: ``torchscript``, ``torch.export`` or ``aotinductor``.
        members: number of files in the archive.
        side_files: text files that travel with the model (``extra/*``), by name.
        operators: operators outside PyTorch's own namespace that its code calls, such as ``torchvision::nms``.
        quantized: its code calls quantised operators.
    """

    format: ModelFormat
    members: int
    side_files: dict[str, str]
    operators: frozenset[str]
    quantized: bool


def read_archive(data: bytes, name: str) -> Archive:
    """Look at the bytes of a model file.

    Args:
        data: the whole file.
        name: how the messages call it.

    Raises:
        ModelLoadError: it is not a model that can be run (the message says what it is), or its code reads and writes
            files.
    """
    try:
        file = io.BytesIO(data)
        with zipfile.ZipFile(file) as archive:
            return _look(archive, file, name)
    except DAMAGE as exc:
        found, remedy = describe_foreign(data, PurePath(name).suffix.lower())
        raise _refused(name, found, remedy) from exc


def _look(archive: zipfile.ZipFile, file: io.BytesIO, name: str) -> Archive:
    members = archive.infolist()
    pickles = [member for member in members if member.filename.endswith("/data.pkl")]
    pickled = archive.read(pickles[0]) if pickles and pickles[0].file_size <= _LONGEST_CODE else b""
    names = [member.filename for member in members]
    kind = format_of(names)
    if kind is None:
        raise _refused(name, *describe_zip(names, pickled))
    if LEGACY & set(names):
        raise ModelLoadError(f"{name}: this torch.export archive was written by torch 2.7 or older; export it again")
    own = read_by_torch(archive, file, name)
    damaged = archive.testzip()  # torch does not compare checksums, and may crash on what it finds instead
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is damaged")
    operators: frozenset[str] = frozenset()
    if kind == "torchscript":
        operators = _read_code(archive, own, name)
    elif kind == "torch.export":
        operators = read_export(archive, own, name)
    side_files = {}
    for inner, member in own.items():
        if inner.startswith("extra/") and member.file_size <= _LONGEST_SIDE_FILE:
            side_files[inner.removeprefix("extra/")] = archive.read(member).decode("utf-8", "replace")
    quantized = any(op.startswith(("quantized::", "_quantized::", "quantized_decomposed::")) for op in operators)
    return Archive(kind, len(members), side_files, operators, quantized)


def _read_code(archive: zipfile.ZipFile, own: Mapping[str, zipfile.ZipInfo], name: str) -> frozenset[str]:
    """The operators that TorchScript calls."""
    code = [member for inner, member in own.items() if inner.startswith("code/") and inner.endswith(".py")]
    if sum(member.file_size for member in code) > _LONGEST_CODE:
        raise _refused(name, f"TorchScript with more than {_LONGEST_CODE >> 20} MB of code", "this is not a detector")
    text = "\n".join(archive.read(member).decode("utf-8", "replace") for member in code)
    if reason := file_access(text):
        raise ModelLoadError(f"{name}: its code is refused: {reason}")
    return frozenset(f"{space}::{op}" for space, op in _OPERATOR.findall(text) if space not in ("prim", "aten"))


def _refused(name: str, found: str, remedy: str) -> ModelLoadError:
    expected = "" if remedy == OTHER_FILE else "; a TorchScript or .pt2 detector was expected"
    return ModelLoadError(f"{name}: this is {found}{expected}. Remedy: {remedy}")
