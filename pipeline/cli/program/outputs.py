# SPDX-License-Identifier: Apache-2.0
"""Standard outputs that were closed, cannot show a name, or whose terminal is gone: none of it ends the program."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Final, cast

GONE: Final = (errno.EIO, errno.EPIPE)
"""What a terminal, and a pipe, say when nobody is at the other end any more."""


def survive_any_output() -> None:
    """Names of files may hold what a terminal cannot show, and whoever started this program may have closed its
    outputs. What is said on stderr is lost when its terminal goes: a run goes on, and leaves its report."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):  # nobody put another one there
        sys.stderr = _unbreakable(sys.stderr)


def silence_stdout() -> None:
    """What is still buffered must not fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unbreakable(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = cast("io.RawIOBase", _Unbreakable(stream.fileno()))
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "replace", line_buffering=True)


class _Unbreakable(io.RawIOBase):
    """The file of a descriptor, which takes whatever it is given, also when nobody reads it any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.name = "<stderr>"

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        given = memoryview(data)  # type: ignore[arg-type]
        try:
            return os.write(self._descriptor, given)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return given.nbytes
