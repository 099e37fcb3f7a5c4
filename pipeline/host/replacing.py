# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced in one step: a reader sees the old one or the whole new one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """A new file beside ``path`` that takes its place when the block ends well, and is gone when it does not.

    Nobody else can have put a file or a link of its name there before, and two programs never have the same.

    Args:
        path: what is replaced; its folder exists.
        private: this user alone may read and write it; else the permissions are those of any new file.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    partial = path.with_name(f".{path.stem[:50]}.{secrets.token_hex(8)}{path.suffix}")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if private else 0o666))
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
