# SPDX-License-Identifier: Apache-2.0
"""A file of whole records: whatever is cut off, by a full disk or a kill, is removed before the next record follows."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError, SinkError
from pipeline.sinks.paths import sink_error

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Rotate:
    """When a file is full and how many full ones are kept.

    Attributes:
        max_mb: megabytes (10^6 bytes) that a file may reach; a record is never split.
        keep: full files kept beside the growing one, as ``<file>.1`` (newest) to ``<file>.<keep>``.
    """

    max_mb: float = 100.0
    keep: int = 5

    def __post_init__(self) -> None:
        if not self.max_mb > 0 or self.keep < 1:
            raise ConfigError(f"rotate: expected max_mb > 0 and keep >= 1, found {self.max_mb} and {self.keep}")


def repair_tail(path: Path, opening: bytes = b"") -> int:
    """Cut what follows the last newline of a regular file; returns how many bytes that was. A missing file is whole.

    A tail that does not begin like a record (``opening``; zeros pass, some file systems leave them after a power loss)
    belongs to somebody else: SinkError, and nothing is cut. Raises OSError as the system calls do.
    """
    if not path.exists() or not stat.S_ISREG(path.stat().st_mode):
        return 0
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        whole = _after_last_newline(fd, size)
        head = os.pread(fd, len(opening), whole).rstrip(b"\0")
        if not opening.startswith(head):
            raise SinkError(f"{path} ends in something that is no record of this sink: move it or choose another path")
        if whole < size:
            os.ftruncate(fd, whole)
        return size - whole
    finally:
        os.close(fd)


def _after_last_newline(fd: int, size: int) -> int:
    end = size
    while end:
        begin = max(0, end - _CHUNK)
        newline = os.pread(fd, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


class RecordFile:
    """Appends records, each with one ``write``. Opened by the first use; used by one thread.

    Args:
        path: the file; its folder exists.
        replace: empty the file when it is opened for the first time, else append after repairing a torn tail.
        header: first line of an empty file.
        opening: how every record begins, see :func:`repair_tail`.
        rotate: see :class:`Rotate`.
        durable: also sync the folder when a file is made or renamed, and the file when it is closed or rotated.
    """

    def __init__(
        self,
        path: Path,
        *,
        replace: bool = False,
        header: bytes = b"",
        opening: bytes = b"",
        rotate: Rotate | None = None,
        durable: bool = False,
    ) -> None:
        self.path = path
        self._replace = replace
        self._header = header
        self._opening = opening
        self._rotate = rotate
        self._durable = durable
        self._fd = -1
        self._regular = True
        self._size = 0
        self._torn = 0  # bytes of an unfinished record at the end of the file
        self._unsynced = False

    def open(self) -> None:
        """Make or repair the file; does nothing when it is open. Raises SinkError, for an unread pipe as well."""
        if self._fd >= 0:
            return
        # Without O_NONBLOCK a pipe would be opened once somebody reads it, and nothing could stop that wait.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            if self._replace:
                flags |= os.O_TRUNC
            else:
                repair_tail(self.path, self._opening)
            self._fd = os.open(self.path, flags, 0o666)
            os.set_blocking(self._fd, True)
            status = os.fstat(self._fd)
            if self._durable:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise sink_error("open", self.path, error) from error
        self._replace = False
        self._regular = stat.S_ISREG(status.st_mode)
        self._size = status.st_size if self._regular else 0
        self._torn = 0
        self._write_header()

    def append(self, record: bytes) -> None:
        """Write ``record``, which ends in a newline, wholly or, with SinkError, not at all."""
        self.open()
        if self._rotate is not None and self._size + len(record) > self._rotate.max_mb * 1e6 and self._regular:
            self._turn(self._rotate)
        self._write_header()
        self._write(record)

    def sync(self) -> None:
        """Make everything written so far survive a power loss; raises SinkError."""
        if not self._unsynced or self._fd < 0 or not self._regular:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise sink_error("sync", self.path, error) from error
        self._unsynced = False

    def close(self) -> None:
        """Close the file, synced when durable; may be called twice and does not prevent later use. Raises SinkError."""
        if self._fd < 0:
            return
        try:
            self._repair()
            if self._durable:
                self.sync()
        except OSError as error:
            raise sink_error("repair", self.path, error) from error
        finally:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _write_header(self) -> None:
        if self._header and self._size == 0:
            self._write(self._header)

    def _write(self, record: bytes) -> None:
        written = 0
        try:
            self._repair()
            written = os.write(self._fd, record)
            while written < len(record):  # a nearly full disk takes a part first and refuses the rest
                written += os.write(self._fd, memoryview(record)[written:])
        except OSError as error:
            raise sink_error("write", self.path, error) from error
        finally:
            if written == len(record):
                self._size += written
                self._unsynced = True
            elif written:
                self._torn = written
                self._try_repair()

    def _repair(self) -> None:
        if self._torn and self._regular:
            # The size is asked for, not remembered: another process may append to the same file.
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - self._torn)
        self._torn = 0

    def _try_repair(self) -> None:
        try:
            self._repair()
        except OSError:
            return  # the next write tries again before it writes

    def _turn(self, rotate: Rotate) -> None:
        """``file`` becomes ``file.1``, ``file.1`` becomes ``file.2``, and so on up to the first number that is free."""
        if self._size <= len(self._header):
            return
        names = [self.path] + [self.path.with_name(f"{self.path.name}.{n}") for n in range(1, rotate.keep + 1)]
        free = next((n for n, name in enumerate(names) if n and not name.exists()), rotate.keep)
        try:
            for n in range(free, 0, -1):
                os.replace(names[n - 1], names[n])
        except OSError as error:
            raise sink_error("rotate", self.path, error) from error
        self.close()
        self.open()


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
