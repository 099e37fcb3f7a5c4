# SPDX-License-Identifier: Apache-2.0
"""What an earlier run left in the folder of a replay: what it finished, and what it wrote."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.replaying.options import ReplayOptions

REPORT = "report.json"
REPORTS = (REPORT, "report.html")

_FILES = {
    "jsonl": ["{}.jsonl"],
    "csv": ["{}.csv"],
    "mot": ["{}.mot.txt"],
    "video": ["{}.mp4"],
    "coco": ["coco.json", "coco_images.json"],
}
_LATER_PART = re.compile(r"(.+)\.[0-9]+\.mp4")
"""A video whose picture changes its size goes on in a second file."""


def outputs(options: ReplayOptions, name: str) -> list[Path]:
    """The files in which the results of one stream are to be found, whether they exist or not."""
    assert options.out is not None
    return [options.out / file.format(name) for kind in options.save for file in _FILES[kind]]


def written(options: ReplayOptions, names: Iterable[str]) -> list[Path]:
    """The files with results of these streams that exist, later parts of videos included."""
    if options.out is None:
        return []
    there = set(os.listdir(options.out))
    parts: dict[str, list[Path]] = {}
    for name in sorted(there) if "video" in options.save else ():
        if part := _LATER_PART.fullmatch(name):
            parts.setdefault(part[1], []).append(options.out / name)
    found = dict.fromkeys(path for name in names for path in (*outputs(options, name), *parts.get(name, ())))
    return [path for path in found if path.name in there]


def refuse_to_overwrite(options: ReplayOptions, sources: Mapping[str, Path]) -> None:
    """Raise UsageError where a result would be written over a recording that is to be read.

    Args:
        options: with ``out`` and ``save``.
        sources: local files by the names of their streams.
    """
    if options.out is None:
        return
    folder = options.out.resolve()
    results = {path.resolve() for name in sources for path in outputs(options, name)}
    for source in sources.values():
        path = Path(os.path.realpath(source))  # resolve() raises for a link that leads to itself
        part = _LATER_PART.fullmatch(path.name) if path.parent == folder and "video" in options.save else None
        if path in results or (part is not None and part[1] in sources):
            raise UsageError(f"{source}: the results would be written over this source; give another --out")


def _shown(value: Any) -> str:
    return "the default" if value is None else str(value)


def refuse_foreign(folder: Path, names: Iterable[str]) -> None:
    """Raise UsageError where one of ``names`` is in ``folder`` and no report of an earlier run there has it."""
    report = _read(folder / REPORT)
    ours = set(recorded(report))
    if isinstance(report, dict) and report.get("command") in ("replay", "run"):
        ours.update(REPORTS)
    for name in names:
        if name not in ours and os.path.lexists(folder / name):
            raise UsageError(
                f"{folder / name}: already exists and is not from an earlier run here, by its report.json; it would be "
                "replaced: give another --out, or move it away"
            )


def clear(folder: Path, keep: Iterable[Path]) -> None:
    """Remove what the report in ``folder`` says that its replay wrote there, and nothing else.

    Without such a report the folder is none of ours. A link is left alone, and so are the files in ``keep``.

    Raises UsageError where a file cannot be removed.
    """
    names = recorded(_read(folder / REPORT))
    kept = {Path(os.path.realpath(path)) for path in keep}
    for name in sorted(names, key=lambda name: name == REPORT):  # the record goes last
        path = folder / name
        if not _is_plain(name) or path.is_symlink() or not path.is_file() or path.resolve() in kept:
            continue
        try:
            path.unlink()
        except OSError as error:
            raise UsageError(f"{path}: an earlier result cannot be removed: {error.strerror or error}") from error


def recorded(report: Any) -> list[str]:
    """Names of the files that a replay wrote, by its report; nothing where that is something else."""
    if not isinstance(report, dict) or report.get("command") != "replay":
        return []
    names = report.get("outputs")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def left_there(options: ReplayOptions) -> list[str]:
    """Names of the files that an earlier replay left in ``out``, by its report."""
    return [] if options.out is None else [name for name in recorded(_read(options.out / REPORT)) if _is_plain(name)]


def report_before(options: ReplayOptions) -> dict[str, Any]:
    """The report that an earlier run left in ``out``, or nothing; raises UsageError when it is of other options."""
    if options.out is None:
        raise UsageError("--resume needs --out: the folder of the run to go on with")
    path = options.out / REPORT
    if not path.exists():
        return {}
    try:
        report: dict[str, Any] = json.loads(path.read_text())
        before, lost = report.get("options", {}), [sink for sink in report["sinks"].values() if _lost(sink)]
        for entry in report["streams"].values():
            entry["state"]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UsageError(f"{path}: not a report that can be resumed from: {error}") from error
    now = options_that_matter(options)
    differ = [
        f"{key} was {_shown(before.get(key))}, is {_shown(now[key])}" for key in now if before.get(key) != now[key]
    ]
    if differ:
        raise UsageError(
            f"--resume: other options than in {path} ({'; '.join(differ)}); use the same, or another --out"
        )
    return {} if lost else report  # where a sink lost data, nobody knows which results are missing


def _lost(sink: Mapping[str, Any]) -> bool:
    return bool(sink["lost"] or sink["faults"]) or sink["state"] == "failed"


def options_that_matter(options: ReplayOptions) -> dict[str, Any]:
    """Those that change results, as JSON would give them back."""
    names = (
        "config",
        "model",
        "adapter",
        "fps",
        "limit",
        "confidence",
        "iou",
        "classes",
        "precision",
        "batch",
        "tuned",
    )
    chosen = {name: getattr(options, name) for name in names}
    return {
        name: list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        for name, value in chosen.items()
    }


def _is_plain(name: str) -> bool:
    return Path(name).name == name


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
