# SPDX-License-Identifier: Apache-2.0
"""How segments of video are called, and which files of a folder are some.

A segment's name is all that is known of it from one run to the next: when it began, for people and for ``keep_days``,
and a number that grows by one, which says what is older of a stream even where the clock was wrong or set back.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from pipeline.timing import rfc3339

_SECOND_NS: Final = 1_000_000_000
_BLOCK: Final = 4096
"""What a small file takes on the disk, so that very many of them count as well."""
ANY_NAME: Final = r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}Z)\.([1-9][0-9]*)"
"""Pattern of the time and the number in a segment's name."""
_NAME: Final = re.compile(ANY_NAME)


@dataclass(frozen=True, slots=True)
class SegmentName:
    """``gate.2026-11-28T13-03-56Z.17.mp4``: when it began, to the second (UTC), and its number in this folder."""

    began_ns: int
    number: int

    def beside(self, first: Path) -> Path:
        """The path of this segment where ``first`` (``out/gate.mp4``) is what the stream's file is called."""
        began = rfc3339(self.began_ns)[:19].replace(":", "-")
        return first.with_name(f"{first.stem}.{began}Z.{self.number}{first.suffix}")

    @classmethod
    def parse(cls, name: str, first: Path) -> SegmentName | None:
        """What a file name says, or None for a name that this sink would not have given."""
        head, tail = f"{first.stem}.", first.suffix
        if not (name.startswith(head) and name.endswith(tail) and len(name) > len(head) + len(tail)):
            return None
        found = _NAME.fullmatch(name[len(head) : len(name) - len(tail)])
        if found is None:
            return None
        year, month, day, hour, minute, second = map(int, re.split("[-T]", found[1][:-1]))
        try:
            began = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
            return cls(int(began.timestamp()) * _SECOND_NS, int(found[2]))
        except ValueError:  # the 31st of February, or a number of thousands of digits
            return None


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that is there.

    Attributes:
        path: where.
        name: what its name says.
        size: bytes that it takes.
    """

    path: Path
    name: SegmentName
    size: int


def size_on_disk(size: int) -> int:
    """Bytes that count for a file of ``size`` bytes."""
    return max(size, _BLOCK)


def size_of(entry: os.DirEntry[str]) -> int | None:
    """Bytes that a regular file takes; None for a link, for anything else, and for what is gone. Raises OSError."""
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return size_on_disk(status.st_size) if stat.S_ISREG(status.st_mode) else None
