# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced in one step: a reader sees the old one or the whole new one."""

from __future__ import annotations

import contextlib
import os
import tempfile
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
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:50]}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        if not private:
            partial.chmod(0o666 & ~_umask())  # mkstemp gives it to its owner alone
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
