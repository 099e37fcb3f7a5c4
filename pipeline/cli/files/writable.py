# SPDX-License-Identifier: Apache-2.0
"""Whether sinks will be able to write, tried out without leaving a trace."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config import Config


def unwritable(config: Config) -> Iterator[str]:
    """One line per sink whose file or folder could not be made or written to.

    Permissions alone do not tell: a folder of /proc says that root may write, and refuses all the same. So something is
    really made, and removed again.
    """
    for index, sink in enumerate(config.sinks):
        path = getattr(sink, "path", None)
        if path is None:
            continue
        fault = _fault(Path(path)) if sink.type == "coco" else _fault_of_file(str(path))
        if fault is not None:
            yield f"sinks[{index}].path: {fault}"


def _fault_of_file(path: str) -> str | None:
    """The same for a file, or for the fixed beginning of a path with ``{stream}`` in it."""
    fixed, placeholder, _ = path.partition("{stream}")
    if placeholder or not os.path.lexists(path):
        return _fault(Path(os.path.dirname(fixed) or "."))
    if os.path.isdir(path):
        return f"{path} is a folder; expected a file"
    return None if os.access(path, os.W_OK) else f"{path} cannot be written to: permission denied"


def _fault(folder: Path) -> str | None:
    """Why nothing can be made in ``folder``, which may have to be made itself, or None."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    try:
        if there == folder:
            with tempfile.TemporaryFile(dir=there):
                return None
        os.rmdir(tempfile.mkdtemp(prefix=".check-", dir=there))
    except OSError as error:
        reason = (
            "it is not a folder" if os.path.lexists(there) and not there.is_dir() else (error.strerror or str(error))
        )
        return f"{there} cannot be written to: {reason[:1].lower()}{reason[1:]}"
    return None
