# SPDX-License-Identifier: Apache-2.0
"""What the segments of all streams of a sink may take together."""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipeline.errors import SinkError
from pipeline.sinks.gallery import Gallery
from pipeline.sinks.paths import StreamPaths, sink_error
from pipeline.sinks.segment_names import Segment, SegmentName, size_on_disk
from pipeline.timing import SYSTEM, Clock

_LOOK_EVERY_NS: Final = 60_000_000_000
"""How often the folder is read; between two looks an account is kept."""


class SharedLimit:
    """Keeps the segments of all streams together below a size: the oldest of all goes first.

    Of one stream the one with the lowest number is the oldest. Between streams the time in the name decides, since each
    counts for itself. A time in the future is of a clock that was wrong, and does not protect a segment: it goes as
    soon as it is the oldest of its stream.

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
        self._finished: dict[str, deque[Segment]] = {}  # of each stream the oldest first
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
            self._finished.setdefault(stream, deque()).append(Segment(path, name, size))
            self._count(path, size)

    def forget(self, path: Path) -> None:
        """It was removed, for whatever reason."""
        self._total -= self._sizes.pop(path, 0)

    def _keep(self) -> None:
        now_ns = self._clock.now_ns()
        if self._looked_ns is None or now_ns - self._looked_ns >= _LOOK_EVERY_NS:
            self._look()
            self._looked_ns = now_ns
        while self._total > self._most and self._finished:
            self._remove_oldest()
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
        for stream, segments in found.items():
            finished = deque(segment for segment in segments if segment.path not in growing)
            if finished:
                self._finished[stream] = finished
            for segment in finished:
                self._count(segment.path, segment.size)

    def _count(self, path: Path, size: int) -> None:
        self._total += size - self._sizes.get(path, 0)
        self._sizes[path] = size

    def _remove_oldest(self) -> None:
        wall_ns = self._clock.wall_ns()

        def age(stream: str) -> tuple[bool, int, int, str]:
            name = self._finished[stream][0].name
            return name.began_ns <= wall_ns, name.began_ns, name.number, stream

        stream = min(self._finished, key=age)
        segment = self._finished[stream].popleft()
        if not self._finished[stream]:
            del self._finished[stream]
        if segment.path in self._sizes:  # else it was removed for another limit
            self._remove(stream, segment)

    def _remove(self, stream: str, segment: Segment) -> None:
        """Where it cannot be removed it counts until the next look, and others go in its place."""
        try:
            if _is_being_written(segment.path):
                return
            segment.path.unlink()
        except FileNotFoundError:
            self.forget(segment.path)
        except OSError as error:
            failure = sink_error("remove", segment.path, error)
            self._refused = self._refused or failure
            self._kept(stream, failure)
        else:
            self.forget(segment.path)
            self._removed(stream, segment.path, f"max_total_gb: {self._most / 1e9:g}")


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
