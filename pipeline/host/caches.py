# SPDX-License-Identifier: Apache-2.0
"""Where this program keeps what it can make again: rendered clips, verdicts on models, tuned settings."""

from __future__ import annotations

import json
import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.host.replacing import replacing

_log = logging.getLogger(__name__)

_ROOT = "video-pipeline"


def cache_folder(name: str) -> Path:
    """``$XDG_CACHE_HOME/video-pipeline/<name>``, by default under ``~/.cache``. It is not made here.

    A user without a home, as a container's may be, has no cache: then it is a path at which nothing can be.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        return Path(given) / _ROOT / name
    try:
        return Path.home() / ".cache" / _ROOT / name
    except RuntimeError:
        return Path(os.devnull) / _ROOT / name


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone; raises OSError."""
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def distrusted(path: Path) -> str:
    """Why a file of the cache may be somebody else's word; empty when only this user, or root, can have put it there.

    What the cache says decides which program is run. So the file, its folder and the cache must belong to this user or
    to root, nobody else may write them, and the file must not be a link.

    Raises:
        OSError: it is not there, or cannot be looked at.
    """
    if reason := _of_others(path, os.lstat(path)):
        return reason
    folders = [path.parent] + ([path.parent.parent] if path.parent.parent.name == _ROOT else [])
    return next((reason for folder in folders if (reason := _of_others(folder, os.stat(folder)))), "")


def read_cached(path: Path) -> dict[str, Any] | None:
    """A JSON object that :func:`write_cached` left, or None: a cache that is missing or damaged is not an error.

    One that others may have written (:func:`distrusted`) is as good as none, and is told of.
    """
    try:
        if reason := distrusted(path):
            _log.warning("%s is ignored: %s", path, reason)
            return None
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def write_cached(path: Path, facts: dict[str, Any]) -> None:
    """Keep a JSON object; readers see the old file or the whole new one. Failing to is not an error."""
    with suppress(OSError):
        make_private(path.parent)
        with replacing(path, private=True) as partial:
            partial.write_text(json.dumps(facts, indent=1, sort_keys=True), "utf-8")


def _of_others(path: Path, found: os.stat_result) -> str:
    if stat.S_ISLNK(found.st_mode):
        return "it is a link; a file was expected"
    if found.st_uid not in (os.geteuid(), 0):
        return f"user {found.st_uid} owns {path}; remedy: remove it, or set XDG_CACHE_HOME to a folder of your own"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"other users may change {path}; remedy: remove it unless you know its content, or chmod go-w {path}"
    return ""
