# SPDX-License-Identifier: Apache-2.0
"""A stream's video in segments: how long they are, and which of them are removed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import ConfigError, SinkError
from pipeline.sinks.parts import remove_if_bare
from pipeline.sinks.paths import sink_error
from pipeline.sinks.segment_names import Segment, SegmentName, size_of
from pipeline.sinks.shared_limit import SharedLimit

_DAY_NS: Final = 86_400 * 1_000_000_000
_SHARE: Final = 10
"""A segment ends when it has this part of its limit: what is removed at once is never much of the whole."""


@dataclass(frozen=True, slots=True)
class Segments:
    """How long a segment is, and how much is kept of a stream.

    Attributes:
        seconds: length of a segment.
        keep: finished segments kept, or None.
        keep_days: age at which a segment is removed, counted from its beginning, or None.
        max_bytes: what all segments of a stream may take, with the one that is being written, or None.
        max_total_bytes: what those of all streams may take, with those that are being written, or None.
    """

    seconds: float = 3600.0
    keep: int | None = None
    keep_days: float | None = None
    max_bytes: int | None = 10_000_000_000
    max_total_bytes: int | None = None

    def __post_init__(self) -> None:
        limits = (self.keep, self.keep_days, self.max_bytes, self.max_total_bytes)
        if self.seconds <= 0 or any(limit is not None and limit <= 0 for limit in limits):
            raise ConfigError(f"segments: expected lengths and limits above 0, found {self}")
        if all(limit is None for limit in limits):
            raise ConfigError("segments: expected keep, keep_days, max_bytes or max_total_bytes")

    def segment_bytes(self, streams: int) -> int | None:
        """Size at which a segment ends before its time, where ``streams`` are written."""
        own = [] if self.max_bytes is None else [self.max_bytes // _SHARE]
        common = [] if self.max_total_bytes is None else [self.max_total_bytes // (_SHARE * max(streams, 1))]
        return min(own + common, default=None)


class SegmentFiles:
    """The segments of one stream in a folder.

    Only regular files whose names this sink gives are ever removed, so what somebody renamed stays, and so does what a
    symbolic link leads to. The folder is read whenever a segment begins, so files may come and go.

    Args:
        stream: its name.
        first: what the stream's file would be called without segments, such as ``out/gate.mp4``.
        rule: what is kept.
        removed: told of each segment that was removed, and why.
        kept: told why segments could not be removed.
        shared: the limit for all streams together, if there is one.
    """

    own_start = False

    def __init__(
        self,
        stream: str,
        first: Path,
        rule: Segments,
        removed: Callable[[Path, str], None],
        kept: Callable[[SinkError], None],
        shared: SharedLimit | None = None,
    ) -> None:
        self._stream = stream
        self._first = first
        self._rule = rule
        self._removed = removed
        self._kept = kept
        self._shared = shared
        self._current: tuple[Path, SegmentName] | None = None
        self._finished: list[Segment] | None = None
        self._total = 0

    def next(self, wall_ns: int) -> Path:
        """Make room, and say where the next segment goes; raises SinkError where no room could be made."""
        number = self._look()
        if self._remove_bare():
            number = self._look()
        self._remove_old(wall_ns)
        self._make_room(0)
        if self._shared is not None:
            self._shared.room(self._stream)
        name = SegmentName(wall_ns, number + 1)
        path = name.beside(self._first)
        self._current = path, name
        return path

    def grown(self, size: int) -> None:
        """Keep to ``max_bytes`` while a segment grows; raises SinkError where no room could be made."""
        if self._rule.max_bytes is not None and self._total + size > self._rule.max_bytes:
            self._make_room(size)
        if self._shared is not None and self._current is not None:
            self._shared.grown(self._current[0], size)

    def finished(self) -> None:
        """From now on it may be removed."""
        self._finished = None
        if self._shared is not None and self._current is not None:
            self._shared.finished(self._stream, *self._current)
        self._current = None

    def failed(self, path: Path) -> None:
        """A segment without a picture is removed, so that a disk that stays full does not gather them."""
        remove_if_bare(path)
        self.finished()

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
                    size = size_of(entry)
                    if size is not None:
                        found.append(Segment(Path(entry.path), name, size))
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

    def _remove(self, segment: Segment, reason: str) -> SinkError | None:
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

    def _forget(self, segment: Segment) -> None:
        assert self._finished is not None, "it was found by looking"
        self._finished.remove(segment)
        self._total -= segment.size
        if self._shared is not None:
            self._shared.forget(segment.path)
