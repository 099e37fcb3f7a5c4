# SPDX-License-Identifier: Apache-2.0
"""A model file as a zip archive that may be hostile: opened once, hashed, and read within fixed bounds only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pipeline.detectors.loading.formats import OTHER_FILE, describe_foreign
from pipeline.detectors.loading.members import DAMAGE, ELSEWHERE, own_members, printable, read_directory
from pipeline.detectors.loading.opening import open_regular
from pipeline.errors import ModelLoadError

MOST_DIRECTORY = 8 << 20
"""Bytes of the archive's table of contents: about 100,000 members."""
MOST_MEMBER = 64 << 20
"""Bytes of one member that is read whole."""
MOST_READ = 256 << 20
"""Bytes of all members together that are read whole."""

_HEAD = 64 << 20  # of a file that is not an archive: enough to tell what it is
_BLOCK = 1 << 20
_DOUBTS = 10  # are told one by one
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # other methods expand without a bound, and torch has none


@dataclass(slots=True)
class Members:
    """The members of an archive, by their path below its root folder.

    Attributes:
        name: how messages call the file.
        size: bytes of the file.
        sha256: of the file, 64 hexadecimal digits.
        world_writable: every user of this machine may change the file.
        infos: what the table of contents says of each member.
        doubts: what is odd about the archive, one line each.
    """

    name: str
    size: int
    sha256: str
    world_writable: bool
    infos: dict[str, zipfile.ZipInfo]
    doubts: list[str]
    _archive: zipfile.ZipFile
    _left: int = field(default=MOST_READ)

    def read(self, inner: str, most: int | None = None) -> bytes:
        """All bytes of a member, checked against its checksum; raises ModelLoadError when there are too many."""
        info = self.infos[inner]
        most = MOST_MEMBER if most is None else most
        if info.file_size > min(most, self._left):
            raise ModelLoadError(
                f"{self.name}: its member {printable(inner)} expands to {info.file_size:,} bytes; "
                f"{most >> 20} MB are read of one such member, and {MOST_READ >> 20} MB of all: refused"
            )
        if info.compress_type not in _READABLE:
            raise ModelLoadError(
                f"{self.name}: its member {printable(inner)} is packed in a way that torch cannot read"
            )
        with self._archive.open(info) as member:
            data = member.read(info.file_size + 1)
        self._left -= len(data)
        return data

    def text(self, inner: str) -> str:
        """A member as text; what is no UTF-8 is replaced."""
        return self.read(inner).decode("utf-8", "replace")

    def below(self, folder: str) -> list[str]:
        """Members of a folder (with its slash), in the order of the archive."""
        return [inner for inner in self.infos if inner.startswith(folder)]

    def check(self) -> None:
        """Compare the checksums of all members that are stored as they are; raises BadZipFile."""
        for info in self.infos.values():
            if info.compress_type == zipfile.ZIP_STORED:
                with self._archive.open(info) as member:
                    while member.read(_BLOCK):
                        pass


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Members]:
    """Open a model file. Nothing of it is run or unpickled.

    Raises:
        ModelLoadError: the file cannot be read, is not a zip archive (the message says what it is), or is damaged; also
            when the block meets damage.
    """
    name = str(path)
    try:
        with open_regular(path, name) as (file, status):
            yield from _members(file, status, name)
    except FileNotFoundError as exc:
        raise ModelLoadError(f"{name}: no such model file") from exc
    except IsADirectoryError as exc:
        raise ModelLoadError(f"{name}: this is a directory; a model file was expected") from exc
    except OSError as exc:
        raise ModelLoadError(f"{name}: the model file cannot be read: {exc.strerror or exc}") from exc


def _members(file: BinaryIO, status: os.stat_result, name: str) -> Iterator[Members]:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    try:
        directory = read_directory(file)
        if directory.size > MOST_DIRECTORY:
            raise ModelLoadError(f"{name}: its table of contents has more than {MOST_DIRECTORY >> 20} MB: refused")
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            infos, doubts = _by_path(archive.infolist(), status.st_size, name)
            if not directory.certain:
                doubts.insert(0, ELSEWHERE)
            writable = bool(status.st_mode & stat.S_IWOTH)
            yield Members(name, status.st_size, digest.hexdigest(), writable, infos, doubts, archive)
    except DAMAGE as exc:
        file.seek(0)
        found, remedy = describe_foreign(file.read(_HEAD), Path(name).suffix.lower(), status.st_size)
        expected = "" if remedy == OTHER_FILE else "; a TorchScript or .pt2 file was expected"
        raise ModelLoadError(f"{name}: this is {found}{expected}. Remedy: {remedy}") from exc


def _by_path(members: list[zipfile.ZipInfo], size: int, name: str) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """The members that torch reads, and at most so many doubts that they can be told one by one."""
    if sum(member.compress_size for member in members) > size:
        raise ModelLoadError(f"{name}: its members overlap, so that little expands to much: refused")
    infos, doubts = own_members(members)
    if len(doubts) > _DOUBTS:
        doubts[_DOUBTS:] = [f"and {len(doubts) - _DOUBTS} more members like these"]
    return infos, doubts
