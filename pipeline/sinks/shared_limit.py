# SPDX-License-Identifier: Apache-2.0
"""What the segments of all streams of a sink may take together."""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import SinkError
from pipeline.sinks.gallery import Gallery
from pipeline.sinks.paths import StreamPaths, sink_error
from pipeline.sinks.segment_names import SegmentName, size_on_disk
from pipeline.timing import SYSTEM, Clock

_LOOK_EVERY_NS: Final = 60_000_000_000
"""How often the folder is read; between two looks an account is kept."""


@dataclass(frozen=True, slots=True)
class _Finished:
    """A segment that may be removed.

    Attributes:
        stream, path, size: whose, where, and bytes.
        since_ns: when it is taken to have begun, see :meth:`SharedLimit._since`.
        name: what its name says.
    """

    stream: str
    path: Path
    size: int
    since_ns: int
    name: SegmentName

    @property
    def age(self) -> tuple[int, int, int, str]:
        """The least is the oldest."""
        return self.since_ns, self.name.began_ns, self.name.number, str(self.path)


class SharedLimit:
    """Keeps the segments of all streams together below a size: the oldest of all goes first.

    Of one stream the one with the lowest number is the oldest. Between streams the time in the name decides, since each
    counts for itself, but a clock that was wrong is not trusted: a segment is never taken to be older than the one
    before it, and a time in the future says nothing, so it is as old as the one before it.

    Counted are segments of streams that are no longer written, too, and those that another process (``--shard``) writes
    into the same folder; both may be removed. What is being written, here or there, never is. The folder is read once a
    minute, whatever the number of frames and segments.

    Args:
        paths: where the sink's files lie.
        most: bytes for all of them, with those that are being written.
        removed: told of a segment that was removed: stream, path, and why.
        kept: told why one could not be, or could not be seen: stream and error.
    """

    def __init__(
        self,
        paths: StreamPaths,
        most: int,
        removed: Callable[[str, Path, str], None],
        kept: Callable[[str, SinkError], None],
        clock: Clock = SYSTEM,
    ) -> None:
        self._most = most
        self._removed = removed
        self._kept = kept
        self._clock = clock
        self._gallery = Gallery(paths)
        self._looked_ns: int | None = None
        self._finished: dict[str, deque[_Finished]] = {}
        self._sizes: dict[Path, int] = {}  # of all that count, those that are being written included
        self._total = 0
        self._written: set[Path] = set()
        self._streams: set[str] = set()
        self._refused: SinkError | None = None

    def room(self, stream: str) -> None:
        """Make room before a segment of ``stream`` begins; raises SinkError where none could be made."""
        self._streams.add(stream)
        self._keep()

    def grown(self, path: Path, size: int) -> None:
        """Keep to the limit while the segment at ``path`` grows; raises SinkError where no room could be made."""
        self._written.add(path)
        self._count(path, size_on_disk(size))
        self._keep()

    def finished(self, stream: str, path: Path, name: SegmentName) -> None:
        """The segment at ``path`` may be removed from now on, if it is there."""
        self._written.discard(path)
        try:
            size = size_on_disk(path.lstat().st_size)
        except OSError:
            self.forget(path)
        else:
            self._add(stream, path, size, name, self._clock.wall_ns())

    def forget(self, path: Path) -> None:
        """It was removed, for whatever reason."""
        self._total -= self._sizes.pop(path, 0)

    def _keep(self) -> None:
        now_ns = self._clock.now_ns()
        if self._looked_ns is None or now_ns - self._looked_ns >= _LOOK_EVERY_NS:
            self._look()
            self._looked_ns = now_ns
        while self._total > self._most:
            oldest = min((line[0] for line in self._finished.values() if line), key=lambda one: one.age, default=None)
            if oldest is None:
                break
            self._finished[oldest.stream].popleft()
            self._remove(oldest)
        if self._total > self._most and self._refused is not None:
            raise self._refused

    def _look(self) -> None:
        """Count anew: files come and go without being told here."""
        found = self._gallery.look(frozenset(self._streams), self._kept)
        growing = {path: self._sizes[path] for path in self._written}
        self._finished = {}
        self._sizes = {}
        self._total = 0
        self._refused = None
        for path, size in growing.items():
            self._count(path, size)
        wall_ns = self._clock.wall_ns()
        for stream, segments in found.items():
            for segment in segments:
                if segment.path not in growing:
                    self._add(stream, segment.path, segment.size, segment.name, wall_ns)

    def _add(self, stream: str, path: Path, size: int, name: SegmentName, wall_ns: int) -> None:
        line = self._finished.setdefault(stream, deque())
        self._count(path, size)
        line.append(_Finished(stream, path, size, _since(line[-1].since_ns if line else 0, name, wall_ns), name))

    def _count(self, path: Path, size: int) -> None:
        self._total += size - self._sizes.get(path, 0)
        self._sizes[path] = size

    def _remove(self, segment: _Finished) -> None:
        """Where it cannot be removed it counts until the next look, and others go in its place."""
        if segment.path not in self._sizes:  # it was removed for another limit
            return
        try:
            if _is_being_written(segment.path):
                return
            segment.path.unlink()
        except FileNotFoundError:
            self.forget(segment.path)
        except OSError as error:
            failure = sink_error("remove", segment.path, error)
            self._refused = self._refused or failure
            self._kept(segment.stream, failure)
        else:
            self.forget(segment.path)
            self._removed(segment.stream, segment.path, f"max_total_gb: {self._most / 1e9:g}")


def _since(before_ns: int, name: SegmentName, wall_ns: int) -> int:
    """When a segment is taken to have begun, after one of the same stream that began at ``before_ns``."""
    return max(before_ns, name.began_ns) if name.began_ns <= wall_ns else before_ns


def _is_being_written(path: Path) -> bool:
    """Whether a process has its lock, see :class:`pipeline.sinks.mp4.Mp4File`; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):  # no locks there: nobody can have one
            return False
        if isinstance(error, BlockingIOError):
            return True
        raise
    finally:
        os.close(fd)
    return False
