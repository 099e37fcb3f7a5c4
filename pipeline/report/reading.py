# SPDX-License-Identifier: Apache-2.0
"""Reports that runs left behind, read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from pipeline.errors import UsageError
from pipeline.host.nearby import meant

_KEYS = (
    "command",
    "machine",
    "model",
    "startup_s",
    "wall_s",
    "cpu_s",
    "frames",
    "fps",
    "batches",
    "streams",
    "sinks",
    "total",
)
_OF_A_STREAM = ("state", "frames", "fps", "stages", "jitter")


def read_report(path: Path) -> dict[str, Any]:
    """The report in a folder, or that of a file; raises UsageError where there is none that this version understands.

    Reports of earlier versions are understood as long as they have the keys of the contract; what they do not know
    (distributions, figures over time) is absent.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        if file == path:
            raise UsageError(f"{path}: no such folder{meant(path)}") from error
        raise UsageError(f"{path}: there is no report.json in this folder{_below(path)}") from error
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror or error}") from error
    try:
        report = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{file}: is not JSON: {error}") from error
    if not isinstance(report, dict) or report.get("command") not in ("replay", "run"):
        raise UsageError(f"{file}: is not the report of a replay or a run")
    missing = [key for key in _KEYS if key not in report]
    for name, stream in report["streams"].items() if isinstance(report.get("streams"), dict) else ():
        missing += [
            f"streams.{name}.{key}" for key in _OF_A_STREAM if not isinstance(stream, dict) or key not in stream
        ]
    if missing:
        raise UsageError(f"{file}: is not a report that this version understands: without {', '.join(missing[:3])}")
    return report


def _below(folder: Path) -> str:
    """Where the newest report is among the folders of a folder, as of ``runs/``."""
    newest = max(folder.glob("*/report.json"), key=lambda file: file.lstat().st_mtime_ns, default=None)
    return f"; the newest below it is in {newest.parent}" if newest else ""
