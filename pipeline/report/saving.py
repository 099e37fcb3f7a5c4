# SPDX-License-Identifier: Apache-2.0
"""Reports as files: whoever opens one finds the old one or the new one, never half of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from pipeline.errors import SinkError
from pipeline.host.replacing import replacing
from pipeline.report.page import page

_IN_A_LINE = frozenset({"distributions", "over_time"})
"""What programs read: lists of hundreds of numbers would be as many lines."""


def to_json(report: Mapping[str, Any]) -> bytes:
    """The report, or another document, as indented JSON with a line break at its end."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
    try:
        return orjson.dumps(_compact(report), option=option)
    except orjson.JSONEncodeError:  # the name of a file may be no text
        return orjson.dumps(_compact(_as_text(report)), option=option)


def _as_text(part: Any) -> Any:
    """Bytes of file names that are not UTF-8 become ``\\xff``, as shells show them."""
    match part:
        case str():
            return part.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        case Mapping():
            return {_as_text(name): _as_text(below) for name, below in part.items()}
        case list() | tuple():
            return [_as_text(below) for below in part]
        case _:
            return part


def _compact(part: Any, key: str = "") -> Any:
    if key in _IN_A_LINE:
        return orjson.Fragment(orjson.dumps(part))
    return {name: _compact(below, str(name)) for name, below in part.items()} if isinstance(part, Mapping) else part


def save_json(report: Mapping[str, Any], folder: Path) -> Path:
    """Write ``report.json`` into ``folder``; raises SinkError."""
    return save(folder / "report.json", to_json(report))


def save_html(report: Mapping[str, Any], folder: Path) -> Path:
    """Write ``report.html`` into ``folder``; raises SinkError."""
    return save(folder / "report.html", page(report).encode("utf-8", "replace"))


def save(path: Path, data: bytes) -> Path:
    """Write any document; raises SinkError."""
    try:
        with replacing(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error
    return path
