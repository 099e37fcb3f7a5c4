# SPDX-License-Identifier: Apache-2.0
"""A stream's video in segments: how they are called, and which of them are removed.

A segment's name is all that is known of it from one run to the next: when it began, for people and for ``keep_days``,
and a number that grows by one, which says what is older even where the clock was wrong or set back.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from pipeline.errors import ConfigError, SinkError
from pipeline.sinks.parts import remove_if_bare
from pipeline.sinks.paths import sink_error
from pipeline.timing import rfc3339

_SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _SECOND_NS
_BLOCK: Final = 4096
"""What a small file takes on the disk, so that very many of them count as well."""
_SHARE: Final = 10
"""A segment ends when it has this part of ``max_bytes``: what is removed at once is never much of the whole."""
_NAME: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}Z)\.([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Segments:
    """How long a segment is, and how much is kept of a stream.

    Attributes:
        seconds: length of a segment.
        keep: finished segments kept, or None.
        keep_days: age at which a segment is removed, counted from its beginning, or None.
        max_bytes: what all segments may take, with the one that is being written, or None.
    """

    seconds: float = 3600.0
    keep: int | None = None
    keep_days: float | None = None
    max_bytes: int | None = 10_000_000_000

    def __post_init__(self) -> None:
        limits = (self.keep, self.keep_days, self.max_bytes)
        if self.seconds <= 0 or any(limit is not None and limit <= 0 for limit in limits):
            raise ConfigError(f"segments: expected lengths and limits above 0, found {self}")
        if limits == (None, None, None):
            raise ConfigError("segments: expected keep, keep_days or max_bytes")

    @property
    def segment_bytes(self) -> int | None:
        """Size at which a segment ends before its time."""
        return None if self.max_bytes is None else self.max_bytes // _SHARE


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
        try:
            began = datetime.strptime(found[1], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=timezone.utc)
            return cls(int(began.timestamp()) * _SECOND_NS, int(found[2]))
        except ValueError:  # the 31st of February, or a number of thousands of digits
            return None


@dataclass(frozen=True, slots=True)
class _Segment:
    path: Path
    name: SegmentName
    size: int


class SegmentFiles:
    """The segments of one stream in a folder.

    Only regular files whose names this sink gives are ever removed, so what somebody renamed stays, and so does what a
    symbolic link leads to. The folder is read whenever a segment begins, so files may come and go.

    Args:
        first: what the stream's file would be called without segments, such as ``out/gate.mp4``.
        rule: what is kept.
        removed: told of each segment that was removed, and why.
        kept: told why segments could not be removed.
    """

    own_start = False

    def __init__(
        self,
        first: Path,
        rule: Segments,
        removed: Callable[[Path, str], None],
        kept: Callable[[SinkError], None],
    ) -> None:
        self._first = first
        self._rule = rule
        self._removed = removed
        self._kept = kept
        self._finished: list[_Segment] | None = None
        self._total = 0

    def next(self, wall_ns: int) -> Path:
        """Make room, and say where the next segment goes; raises SinkError where no room could be made."""
        number = self._look()
        if self._remove_bare():
            number = self._look()
        self._remove_old(wall_ns)
        self._make_room(0)
        return SegmentName(wall_ns, number + 1).beside(self._first)

    def grown(self, size: int) -> None:
        """Keep to ``max_bytes`` while a segment grows; raises SinkError where no room could be made."""
        if self._rule.max_bytes is not None and self._total + size > self._rule.max_bytes:
            self._make_room(size)

    def finished(self) -> None:
        """From now on it may be removed."""
        self._finished = None

    def failed(self, path: Path) -> None:
        """A segment without a picture is removed, so that a disk that stays full does not gather them."""
        remove_if_bare(path)

    def remove_old(self, wall_ns: int) -> None:
        """Remove what is older than ``keep_days`` at ``wall_ns``."""
        if self._rule.keep_days is None:
            return
        try:
            if self._finished is None:
                self._look()
        except SinkError as error:
            self._kept(error)
        else:
            self._remove_old(wall_ns)

    def _remove_bare(self) -> bool:
        """A killed run may have left a segment without a picture, which would take the place of one that has some."""
        finished = self._finished or ()
        return len(finished) > 0 and remove_if_bare(finished[-1].path)

    def _look(self) -> int:
        """Read the folder. Returns the highest number that is taken, by whatever kind of file."""
        highest, found = 0, []
        try:
            with os.scandir(self._first.parent) as entries:
                for entry in entries:
                    name = SegmentName.parse(entry.name, self._first)
                    if name is None:
                        continue
                    highest = max(highest, name.number)
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found.append(_Segment(Path(entry.path), name, max(status.st_size, _BLOCK)))
        except OSError as error:
            raise sink_error("read the folder", self._first.parent, error) from error
        self._finished = sorted(found, key=lambda segment: segment.name.number)
        self._total = sum(segment.size for segment in found)
        return highest

    def _remove_old(self, wall_ns: int) -> None:
        days = self._rule.keep_days
        if days is None:
            return
        for segment in list(self._finished or ()):
            if segment.name.began_ns < wall_ns - days * _DAY_NS:
                self._remove(segment, f"older than keep_days: {days:g}")

    def _make_room(self, growing: int) -> None:
        """Remove the oldest until the limits hold. What cannot be removed counts, and newer ones go in its place."""
        failure: SinkError | None = None
        for segment in list(self._finished or ()):
            reason = self._over(growing)
            if reason is None:
                return
            refused = self._remove(segment, reason)
            failure = failure or refused
        if failure is not None and self._over(growing) is not None:
            raise failure

    def _over(self, growing: int) -> str | None:
        """The limit that does not hold."""
        rule, finished = self._rule, self._finished or ()
        if rule.keep is not None and len(finished) > rule.keep:
            return f"keep: {rule.keep}"
        if rule.max_bytes is not None and self._total + growing > rule.max_bytes:
            return f"max_gb: {rule.max_bytes / 1e9:g}"
        return None

    def _remove(self, segment: _Segment, reason: str) -> SinkError | None:
        try:
            segment.path.unlink()  # a link that was put in its place a moment ago is removed, not followed
        except FileNotFoundError:
            self._forget(segment)
        except OSError as error:
            failure = sink_error("remove", segment.path, error)
            self._kept(failure)
            return failure
        else:
            self._forget(segment)
            self._removed(segment.path, reason)
        return None

    def _forget(self, segment: _Segment) -> None:
        assert self._finished is not None, "it was found by looking"
        self._finished.remove(segment)
        self._total -= segment.size
