# SPDX-License-Identifier: Apache-2.0
"""The files of one stream's video where none is removed: ``gate.mp4``, then ``gate.2.mp4`` and so on."""

from __future__ import annotations

import contextlib
import glob
from pathlib import Path
from typing import Protocol

from pipeline.sinks.mp4 import is_bare
from pipeline.sinks.paths import sink_error


class Files(Protocol):
    """How the files of one stream's video are called, and which of them stay."""

    @property
    def own_start(self) -> bool:
        """Whether the next file keeps its first time stamp, rather than begin at 0."""
        ...

    def next(self, wall_ns: int) -> Path:
        """Where the next file goes, whose first picture is of ``wall_ns``; raises SinkError."""
        ...

    def grown(self, size: int) -> None:
        """The file being written has ``size`` bytes; raises SinkError."""
        ...

    def finished(self) -> None:
        """The file being written is whole."""
        ...

    def failed(self, path: Path) -> None:
        """``path`` cannot be written any further."""
        ...

    def remove_old(self, wall_ns: int) -> None:
        """Remove what is too old at ``wall_ns``."""
        ...


class Parts:
    """Numbered files. A dot cannot be part of a stream's name, so no other stream is in the way.

    Args:
        first: the file of part 1.
    """

    def __init__(self, first: Path) -> None:
        self._first = first
        self._number = 1

    @property
    def own_start(self) -> bool:
        """The first part keeps its first time stamp."""
        return self._number == 1

    def remove(self) -> None:
        """Remove what an earlier run left; raises SinkError."""
        first = self._first
        try:
            first.unlink(missing_ok=True)
            for later in first.parent.glob(f"{glob.escape(first.stem)}.*{first.suffix}"):
                if later.name[len(first.stem) + 1 : -len(first.suffix) or None].isdigit():
                    later.unlink()
        except OSError as error:
            raise sink_error("replace", first, error) from error

    def next(self, wall_ns: int) -> Path:
        """The first number that is free: whatever has something in it stays."""
        while _has_content(self._part):
            self._number += 1
        return self._part

    def grown(self, size: int) -> None:
        """Nothing is removed to make room."""

    def finished(self) -> None:
        """It has its name, and keeps it."""

    def failed(self, path: Path) -> None:
        """A file without a picture is removed, so that a disk that stays full does not gather them."""
        remove_if_bare(path)

    def remove_old(self, wall_ns: int) -> None:
        """Nothing is too old."""

    @property
    def _part(self) -> Path:
        first, number = self._first, self._number
        return first if number == 1 else first.with_name(f"{first.stem}.{number}{first.suffix}")


def remove_if_bare(path: Path) -> bool:
    """Remove a regular file of ours that holds no picture, if that is what it is and can be done; says whether."""
    with contextlib.suppress(OSError):
        if path.is_file() and not path.is_symlink() and is_bare(path):
            path.unlink()
            return True
    return False


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
