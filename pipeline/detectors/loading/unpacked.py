# SPDX-License-Identifier: Apache-2.0
"""What torch unpacks of an AOTInductor package: told from what others unpacked, and removed also after a kill.

torch loads files only, so the bytes that were looked at go into a copy, which torch unpacks into a folder of its own
(``aotinductor_*``, beside the copy). It removes the folder when a package that it loaded goes, but neither where
loading fails nor where the process is killed. A lock (flock) goes with a process however that ends: the copy is locked
while it is being loaded, and a mark in the folder for as long as the code in it is in use. What has our names and no
lock is nobody's, and goes when a package is loaded the next time.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

CODE: Final = "data/aotinductor/model/"
"""Where a package has its code."""

_COPY = re.compile(r"pipeline-[0-9a-f]{32}\.pt2")
_MARK = "pipeline-{}.mark"


@contextmanager
def copied(data: bytes) -> Iterator[Copy]:
    """A copy of a package from which torch may unpack, for as long as the block lasts; raises OSError."""
    remove_abandoned()
    copy = Copy(secrets.token_hex(16))
    with open(copy.path, "x+b", opener=_private) as file:
        try:
            _lock(file)  # before there is anything in it: an empty one is left alone
            file.write(data)
            with zipfile.ZipFile(file, "a") as archive:
                root = archive.namelist()[0].partition("/")[0]
                archive.writestr(f"{root}/{CODE}{copy.mark}", b"")
            file.flush()
            yield copy
        finally:
            copy.path.unlink(missing_ok=True)


class Copy:
    """What :func:`copied` made.

    Attributes:
        path: of the copy.
        mark: name of the member by which what torch unpacks of it is told from the rest.
    """

    def __init__(self, token: str) -> None:
        self.path = _temporary() / f"pipeline-{token}.pt2"
        self.mark = _MARK.format(token)

    def remove_unpacked(self) -> None:
        """Remove what torch unpacked: code that is loaded needs its file no more."""
        for mark in self._marks():
            shutil.rmtree(_folder(mark), ignore_errors=True)

    def keep_unpacked(self) -> list[BinaryIO]:
        """Files that show, as long as they are open, that what torch unpacked is in use."""
        held: list[BinaryIO] = []
        for mark in self._marks():
            held.append(open(mark, "rb"))  # noqa: SIM115 - open for as long as the code is in use
            _lock(held[-1])
        return held

    def _marks(self) -> list[Path]:
        return list(_temporary().glob(f"aotinductor_*/*/{CODE}{self.mark}"))


def remove_abandoned() -> None:
    """Remove copies and folders of this user whose processes were killed; what cannot be removed stays."""
    there = _temporary()
    for copy in there.glob("pipeline-*.pt2"):
        if _COPY.fullmatch(copy.name) and (file := _if_abandoned(copy)) is not None:
            with file, suppress(OSError):
                if os.fstat(file.fileno()).st_size:
                    copy.unlink()
    for mark in there.glob(f"aotinductor_*/*/{CODE}{_MARK.format('*')}"):
        copy = there / f"{mark.stem}.pt2"
        loading = not _COPY.fullmatch(copy.name) or copy.exists()
        if not loading and (file := _if_abandoned(mark)) is not None:
            with file:
                shutil.rmtree(_folder(mark), ignore_errors=True)


def _if_abandoned(path: Path) -> BinaryIO | None:
    """A file of this user, locked, where nobody else has the lock; None also where nobody can say."""
    try:
        file = open(path, "rb", opener=_no_link)  # noqa: SIM115 - the caller closes it
    except OSError:
        return None
    try:
        if os.fstat(file.fileno()).st_uid == os.geteuid():
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
    except OSError:  # somebody has it, or there are no locks here
        pass
    file.close()
    return None


def _lock(file: BinaryIO) -> None:
    with suppress(OSError):  # there are file systems without locks, on which nothing is taken for abandoned
        fcntl.flock(file, fcntl.LOCK_EX)


def _temporary() -> Path:
    return Path(tempfile.gettempdir())


def _folder(mark: Path) -> Path:
    """The one that torch made, ``aotinductor_*``."""
    return mark.parents[len(Path(CODE).parts) + 1]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
