# SPDX-License-Identifier: Apache-2.0
"""The tensors that a model file's pickles describe: names, types, shapes and bytes, without reading one value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.workshop.inspection.pickles import Global, Object, Pairs, Stored, members_of

DTYPES: dict[str, tuple[str, int]] = {
    "FloatStorage": ("float32", 4),
    "DoubleStorage": ("float64", 8),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
    "QInt8Storage": ("qint8", 1),
    "QUInt8Storage": ("quint8", 1),
    "QInt32Storage": ("qint32", 4),
    "QUInt4x2Storage": ("quint4x2", 1),
    "ComplexFloatStorage": ("complex64", 8),
    "ComplexDoubleStorage": ("complex128", 16),
}
"""Name and bytes per value of torch's types, by the name of their storage in pickles."""

_LONGEST_PATH = 300
_MOST = 1 << 62


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor as a pickle describes it.

    Attributes:
        name: path of attributes from the root, such as ``backbone.conv.weight``.
        owner: qualified name of the class whose attribute it is; empty when unknown.
        dtype: as torch calls it.
        shape: sizes.
        storage: name of the storage among the members, such as ``12``; several tensors may share one.
        storage_bytes: how many bytes the pickle says that the storage has.
    """

    name: str
    owner: str
    dtype: str
    shape: tuple[int, ...]
    storage: str
    storage_bytes: int

    @property
    def values(self) -> int:
        """How many numbers it shows."""
        return math.prod(self.shape)


def tensors_in(root: Any) -> list[TensorEntry]:
    """All tensors of a described pickle, each object once, by the first path that leads to it."""
    found: list[TensorEntry] = []
    seen: set[int] = set()
    waiting: list[tuple[Any, str, str]] = [(root, "", "")]
    while waiting:
        value, path, owner = waiting.pop()
        if not isinstance(value, list | tuple | Pairs | Object) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Object):
            tensor = _tensor(value, path, owner)
            if tensor is not None:
                found.append(tensor)
                continue
            owner = class_of(value) or owner
        inner = [(child, _joined(path, key), owner) for key, child in members_of(value)]
        waiting.extend(reversed(inner))
    return found


def class_of(value: Any) -> str:
    """Qualified name of the class of a described object: ``__torch__.torch.nn.modules.conv.Conv2d``; else empty."""
    if isinstance(value, Object) and isinstance(value.maker, Global):
        return f"{value.maker.module}.{value.maker.name}"
    return ""


def summarised(tensors: Iterable[TensorEntry], sizes: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Counts by type, most bytes first.

    Args:
        tensors: which ones.
        sizes: real bytes of the storages, by name; what is not among them counts as the pickle says.

    Returns:
        type -> ``{"tensors", "values", "bytes"}``; a storage that several tensors share counts once.
    """
    counted: dict[str, dict[str, int]] = {}
    seen: set[str] = set()
    for tensor in tensors:
        of_type = counted.setdefault(tensor.dtype, {"tensors": 0, "values": 0, "bytes": 0})
        of_type["tensors"] += 1
        of_type["values"] += tensor.values
        if tensor.storage not in seen:
            seen.add(tensor.storage)
            of_type["bytes"] += sizes.get(tensor.storage, tensor.storage_bytes)
    return dict(sorted(counted.items(), key=lambda item: -item[1]["bytes"]))


def _tensor(value: Object, path: str, owner: str) -> TensorEntry | None:
    """``torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)`` and ``_rebuild_qtensor`` alike."""
    maker, arguments = value.maker, value.arguments
    if not (isinstance(maker, Global) and maker.module == "torch._utils" and maker.name.startswith("_rebuild_")):
        return None
    if not (isinstance(arguments, tuple) and len(arguments) >= 3 and isinstance(arguments[0], Stored)):
        return None
    key, shape = arguments[0].key, arguments[2]
    if not (isinstance(key, tuple) and len(key) >= 5 and isinstance(key[1], Global) and isinstance(shape, tuple)):
        return None
    if not all(isinstance(size, int) and 0 <= size < _MOST for size in (*shape, key[4])) or len(shape) > 64:
        return None
    dtype, width = DTYPES.get(key[1].name, (key[1].name.removesuffix("Storage").lower()[:40], 1))
    return TensorEntry(path or "?", owner, dtype, shape, str(key[2])[:100], key[4] * width)


def _joined(path: str, key: str) -> str:
    if not key or len(path) > _LONGEST_PATH:
        return path
    return f"{path}.{key}" if path else key
