# SPDX-License-Identifier: Apache-2.0
"""Adapters that are not part of this program: by entry point, or as ``package.module:factory``."""

from __future__ import annotations

import hashlib
import importlib
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pipeline.detectors.adapter import Adapter
from pipeline.detectors.adapters.family import Family, Options
from pipeline.detectors.preprocessing import Preprocessing
from pipeline.detectors.torch_messages import one_line
from pipeline.errors import ModelLoadError
from pipeline.frame import InputSpec

GROUP = "pipeline.adapters"
"""The entry-point group. Entry points are imported when one is asked for by its name, never before."""

_NEEDED = ("name", "preprocessing", "check", "parse")


def installed() -> dict[str, EntryPoint]:
    """Adapters that installed packages offer, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def load_plugin(name: str, options: Options) -> Family | None:
    """The family of an adapter that the user brings, or None if ``name`` is neither installed nor a path to one.

    Args:
        name: of an entry point, or ``package.module:factory``.
        options: keyword arguments of the factory.

    Raises:
        ModelLoadError: it cannot be imported or called, or what it returns is not an adapter.
    """
    point = installed().get(name)
    if point is None and ":" not in name:
        return None
    try:
        factory = point.load() if point is not None else _find(name)
    except Exception as exc:
        raise ModelLoadError(
            f"model.adapter: {name!r} cannot be imported: {one_line(exc)}; its package must be installed, or its "
            "folder named in PYTHONPATH"
        ) from exc
    try:
        adapter = factory(**options)
    except Exception as exc:
        given = f" with {', '.join(options)}" if options else ""
        raise ModelLoadError(f"model.adapter: {name!r} failed when it was called{given}: {one_line(exc)}") from exc
    return _family(name, adapter)


def identity(adapter: Adapter, options: Options) -> tuple[object, ...]:
    """What tells one way of reading outputs from another, at every start alike.

    Ours are data, and their repr is all of it. Of others that need not be so, their repr may be an address in memory:
    they are known by their class, the text of its module, and their options.
    """
    kind = type(adapter)
    if kind.__module__.startswith(__name__.rpartition(".")[0] + "."):
        return (adapter,)
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    try:
        text = b"" if file is None else Path(file).read_bytes()
    except OSError:
        text = b""
    told = sorted((key, repr(value)) for key, value in options.items())
    return adapter.name, kind.__module__, kind.__qualname__, hashlib.sha256(text).hexdigest(), told


def _find(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _family(name: str, adapter: Any) -> Family:
    missing = [each for each in _NEEDED if not hasattr(adapter, each)]
    if missing or not isinstance(adapter.preprocessing, Preprocessing):
        lacks = f"it has no {', '.join(missing)}" if missing else "its preprocessing is not a Preprocessing"
        raise ModelLoadError(
            f"model.adapter: {name!r} made a {type(adapter).__name__}, which is not an adapter: {lacks}; see the class "
            "Adapter in pipeline.detectors.adapter"
        )

    def make(outputs: Any, spec: InputSpec, options: Options) -> Adapter:
        made: Adapter = adapter
        return made

    return Family(name, adapter.preprocessing, make, takes_list=None)
