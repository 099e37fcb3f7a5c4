# SPDX-License-Identifier: Apache-2.0
"""Reports as files: whoever opens one finds the old one or the new one, never half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from pipeline.errors import SinkError
from pipeline.report.page import page


def to_json(report: Mapping[str, Any]) -> bytes:
    """The report as indented JSON with a line break at its end."""
    return orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def save_json(report: Mapping[str, Any], folder: Path) -> Path:
    """Write ``report.json`` into ``folder``; raises SinkError."""
    return _replace(folder / "report.json", to_json(report))


def save_html(report: Mapping[str, Any], folder: Path) -> Path:
    """Write ``report.html`` into ``folder``; raises SinkError."""
    return _replace(folder / "report.html", page(report).encode("utf-8", "replace"))


def _replace(path: Path, data: bytes) -> Path:
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # mkstemp gives it to its owner alone
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
