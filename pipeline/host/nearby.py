# SPDX-License-Identifier: Apache-2.0
"""The file or folder that was probably meant by a path that does not exist."""

from __future__ import annotations

from pathlib import Path


def meant(path: Path, *, folders: bool = True) -> str:
    """``; did you mean clips/gate.mp4?`` after a message that names ``path``, or nothing."""
    import difflib  # 10 ms that only a mistake is worth

    try:
        siblings = [entry.name for entry in path.parent.iterdir() if folders or entry.is_file()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.75)
    return f"; did you mean {path.parent / near[0]}?" if near else ""
