# SPDX-License-Identifier: Apache-2.0
"""Where this program keeps what it can make again: rendered clips, verdicts on models, tuned settings."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


def cache_folder(name: str) -> Path:
    """``$XDG_CACHE_HOME/video-pipeline/<name>``, by default under ``~/.cache``. It is not made here."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return root / "video-pipeline" / name


def read_cached(path: Path) -> dict[str, Any] | None:
    """A JSON object that :func:`write_cached` left, or None: a cache that is missing or damaged is no error."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_cached(path: Path, facts: dict[str, Any]) -> None:
    """Keep a JSON object; readers see the old file or the whole new one. It is no error when that cannot be done."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(json.dumps(facts, indent=1, sort_keys=True), "utf-8")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
