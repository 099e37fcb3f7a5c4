# SPDX-License-Identifier: Apache-2.0
"""Which members of a zip archive torch reads: what is looked at must be what is loaded.

torch takes the folder of the first member for the root, reads only below it, compares names without regard to case,
and takes one of several that have the same name. Python's zip reader and the one in torch (miniz) also look for the
table of contents in different ways. Archives for which that makes a difference are not exports of torch.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.errors import ModelLoadError

DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, OverflowError, RuntimeError, EOFError, OSError)
"""What Python's zip reader raises on damaged archives, as found by changing bytes at random."""

ELSEWHERE = "its table of contents is not where torch looks for it: torch may read other members"

_TOPS = frozenset({"code", "constants", "constants.pkl", "data", "data.pkl", "bytecode.pkl", "extra", "models"})


@dataclass(frozen=True, slots=True)
class Directory:
    """The table of contents of a zip archive (APPNOTE.TXT 4.3.14 to 4.3.16).

    Attributes:
        size: bytes that it claims to have.
        certain: there is one place only where it can be: it ends where the records begin that point to it.
    """

    size: int
    certain: bool


def read_directory(file: BinaryIO) -> Directory:
    """Where the records at the end of an archive say that its table of contents is; the file's position is moved."""
    size = file.seek(0, os.SEEK_END)
    begin = max(0, size - (22 + 65535 + 20 + 56))
    file.seek(begin)
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        return Directory(0, False)
    claimed, offset, comment = struct.unpack_from("<LLH", tail, end + 12)
    records = end
    certain = end + 22 + comment == len(tail)
    if end >= 20 and tail[end - 20 : end - 16] == b"PK\x06\x07":
        records = end - 76
        (told,) = struct.unpack_from("<Q", tail, end - 12)
        if records < 0 or tail[records : records + 4] != b"PK\x06\x06" or told != begin + records:
            return Directory(claimed if claimed != 0xFFFFFFFF else size, False)
        claimed, offset = struct.unpack_from("<QQ", tail, records + 40)
    return Directory(claimed, certain and offset + claimed == begin + records)


def own_members(members: Sequence[zipfile.ZipInfo]) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """The members that torch reads, and what is odd about the others.

    Args:
        members: all of them, in the order of the table of contents.

    Returns:
        members by their path below the root folder; a line for each that torch does not read, or not surely.
    """
    root = members[0].filename.partition("/")[0] if members else ""
    own: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    doubts = []
    for member in members:
        folder, _, inner = member.filename.partition("/")
        shown, top = printable(member.orig_filename), inner.partition("/")[0]
        if member.is_dir() and folder == root and not member.file_size:
            continue
        if member.orig_filename != member.filename:
            doubts.append(f"the member {shown} is also called {printable(member.filename)}")
        elif folder != root or not inner:
            doubts.append(f"the member {shown} lies outside the folder {printable(root)}")
        elif not top.islower() and top.lower() in _TOPS:
            doubts.append(f"the member {shown} is what torch reads as {printable(inner.lower())}")
        elif inner.lower() in seen:
            doubts.append(f"two members are called {printable(inner)}: torch may read the other one")
        else:
            own[inner] = member
            seen.add(inner.lower())
    return own, doubts


def read_by_torch(archive: zipfile.ZipFile, file: BinaryIO, name: str) -> dict[str, zipfile.ZipInfo]:
    """The members by their path below the root folder, in lower case, as torch finds them.

    Args:
        archive: reads ``file``.
        file: the whole of it.
        name: how the messages call it.

    Raises:
        ModelLoadError: torch may read others.
    """
    own, doubts = own_members(archive.infolist())
    if not read_directory(file).certain:
        doubts.insert(0, ELSEWHERE)
    if doubts:
        raise ModelLoadError(f"{name}: {doubts[0]}: refused. Remedy: export the model again")
    return {inner.lower(): member for inner, member in own.items()}


def printable(text: str, longest: int = 200) -> str:
    """Text out of a file, fit for one line of a terminal: no control characters, no line breaks, not too long."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."
