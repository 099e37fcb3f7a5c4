# SPDX-License-Identifier: Apache-2.0
"""A model file, opened without waiting for anybody."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import ModelLoadError


@contextlib.contextmanager
def open_regular(path: Path, name: str) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """The file and its facts, through one descriptor: nobody can put another one between two looks.

    Raises:
        ModelLoadError: a named pipe or a device, which might have no end.
        OSError: it cannot be opened or read.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ModelLoadError(f"{name}: this is a pipe or a device; a model file was expected")
        yield file, status


def _without_waiting(path: str, flags: int) -> int:
    """Open a named pipe without waiting for somebody to write to it."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
