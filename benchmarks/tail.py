# SPDX-License-Identifier: Apache-2.0
"""The lines of growing files, with the moment at which another process could see them."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

_MODIFY, _CREATE = 0x2, 0x100  # IN_MODIFY, IN_CREATE of inotify(7)
_EVENT = struct.Struct("iIII")


class Line(NamedTuple):
    """One line of a file, and the monotonic time at which it had been read."""

    file: str
    text: bytes
    seen_ns: int


class Tail:
    """Follows all files of a folder; woken by the kernel, so nothing is polled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._notify = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._notify < 0 or self._libc.inotify_add_watch(self._notify, os.fsencode(folder), _MODIFY | _CREATE) < 0:
            raise OSError(ctypes.get_errno(), "inotify", str(folder))
        self._files: dict[str, int] = {}
        self._rest: dict[str, bytes] = {}

    def lines(self, timeout_s: float) -> list[Line]:
        """What was added since the last call; waits for it, ``timeout_s`` at most."""
        if not select.select([self._notify], [], [], timeout_s)[0]:
            return []
        found: list[Line] = []
        for name in self._changed():
            fd = self._files.get(name)
            if fd is None:
                fd = self._files[name] = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
            data = self._rest.get(name, b"")
            while part := os.read(fd, 1 << 16):
                data += part
            seen_ns = time.monotonic_ns()
            *whole, self._rest[name] = data.split(b"\n")
            found += [Line(name, text, seen_ns) for text in whole]
        return found

    def _changed(self) -> list[str]:
        events = os.read(self._notify, 1 << 16)
        names: dict[str, None] = {}
        at = 0
        while at < len(events):
            *_, size = _EVENT.unpack_from(events, at)
            at += _EVENT.size + size
            names[os.fsdecode(events[at - size : at].rstrip(b"\0"))] = None
        return list(names)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for fd in (self._notify, *self._files.values()):
            os.close(fd)
