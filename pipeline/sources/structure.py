# SPDX-License-Identifier: Apache-2.0
"""What the bytes of a recording say about it, before and beside libav: what it is, and how long it meant to be.

Sizes follow ISO/IEC 14496-12 (MP4 boxes), RFC 8794 (EBML, Matroska and WebM), the RIFF and OpenDML specifications
(AVI) and ISO/IEC 13818-1 (transport packets of 188 bytes). A container that does not say how long it is yields None.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.errors import SourceInvalid, SourceUnavailable

_HEAD: Final = 4096
_TAIL: Final = 65536
_PLAYLISTS: Final = (
    (rb"#EXTM3U", "an HLS playlist (m3u8)"),
    (rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<MPD\b", "a DASH manifest (mpd)"),
    (rb"(<\?xml[^>]*>\s*)?<SmoothStreamingMedia\b", "a Smooth Streaming manifest"),
    (rb"ffconcat version", "an ffconcat playlist"),
    (rb"v=0\r?\n", "an SDP file"),
    (rb"\[playlist\]", "a playlist (pls)"),
    (rb"\[reference\]|(?i:<asx\b)", "a playlist (asx)"),
)
_OTHERS: Final = (
    (rb"\x89PNG\r\n", "a PNG picture"),
    (rb"GIF8", "a GIF picture"),
    (rb"%PDF", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"(?is)\s*(<!doctype html|<html)", "an HTML page"),
    (rb"(?s)\s*(<\?xml|\{)", "a text file"),
)
_MP4_BOXES: Final = frozenset({b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"free", b"skip", b"udta", b"meta"})


def inspect(path: Path) -> None:
    """Refuse what cannot be a recording with one line that says what it is.

    Raises:
        SourceUnavailable: it does not exist (``not_found``) or may not be read (``io``).
        SourceInvalid: a folder, a pipe, empty, zero-filled, a playlist, or another kind of file.
    """
    try:
        if path.is_dir():
            raise SourceInvalid(f"{path}: a folder; expected a video file")
        if path.exists() and not path.is_file():
            raise SourceInvalid(f"{path}: a pipe or device; expected a regular video file")
        with path.open("rb") as file:
            head = file.read(_HEAD)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as exc:
        raise SourceUnavailable(f"{path}: no such file", cause="not_found") from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise SourceUnavailable(f"{path}: cannot be read: {reason.lower()}") from exc
    if not head:
        raise SourceInvalid(f"{path}: the file is empty; expected a video")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, kind in _PLAYLISTS:
        if re.match(pattern, text, re.DOTALL):
            raise SourceInvalid(f"{path}: {kind}; playlists are not followed, expected a video file")
    for pattern, kind in _OTHERS:
        if re.match(pattern, head):
            raise SourceInvalid(f"{path}: {kind}; expected a video file")
    looked_at = min(size, 1 << 20)
    if not head.strip(b"\0") and _is_zero(path, 0, looked_at):
        raise SourceInvalid(f"{path}: its first {looked_at} bytes are all zero; expected a video file")


def describe(path: Path) -> str:
    """What is wrong with a file in which libav found no video, in a few words."""
    with path.open("rb") as file:
        head = file.read(16)
        size = os.fstat(file.fileno()).st_size
        if head[:3] == b"\xff\xd8\xff":
            return "a JPEG picture; expected a video file"
        if head[4:8] == b"ftyp":
            whole = {name for name, _, end in _boxes(file, size) if end <= size}
            if not whole & {b"moov", b"moof"}:
                return "an MP4 without its index (moov): the recording was cut before it was finished"
    if head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head[:64]):
        is_config = path.suffix in (".yaml", ".yml")
        return f"a text file, not a video{'; a streams.yaml is run with `pipeline run`' if is_config else ''}"
    return f"no known video container; the file starts with the bytes {head[:8].hex(' ')}"


def forced_format(path: Path) -> str | None:
    """The format to name to libav where its own guess misleads: JPEG pictures in a row pass for a single one."""
    if path.suffix.lower() in (".mjpeg", ".mjpg"):
        with path.open("rb") as file:
            return "mjpeg" if file.read(3) == b"\xff\xd8\xff" else None
    return None


def shortfall(path: Path, format_name: str) -> str | None:
    """Why the bytes of a recording are known to be cut short, or None."""
    end = _declared_end(path, format_name)
    size = path.stat().st_size
    if end is not None and size < end:
        return f"{end - size} of {end} bytes are missing at the end of the file"
    return None


def is_complete(path: Path, format_name: str) -> bool:
    """Whether the container says where it ends, and the file reaches there with more than zero bytes at its end."""
    end = _declared_end(path, format_name)
    size = path.stat().st_size
    return end is not None and size >= end and not _is_zero(path, max(0, size - _TAIL), size)


def _declared_end(path: Path, format_name: str) -> int | None:
    """Bytes that the file must have, from its own structure, or None where it does not say."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if format_name.startswith("mov"):
            return max((end for name, _, end in _boxes(file, size) if name in _MP4_BOXES), default=None)
        if format_name.startswith("matroska"):
            return _matroska_end(file)
        if format_name == "avi":
            return _riff_end(file, size)
        if format_name == "mpegts":
            file.seek(0)
            head = file.read(376)
            if len(head) == 376 and head[0] == head[188] == 0x47:
                return -(-size // 188) * 188
    return None


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Top-level MP4 boxes as (type, start, end); ``end`` may lie beyond the file."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        header = file.read(16)
        length, name = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1 and len(header) == 16:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:  # up to the end of the file, wherever that is
            yield name, start, size
            return
        if length < 8 or not re.fullmatch(rb"[\x20-\x7e\xa9]{4}", name):
            return
        yield name, start, start + length
        start += length


def _vint(data: bytes, start: int) -> tuple[int, int, bool] | None:
    """An EBML size at ``start``: (value, length, unknown), or None where the bytes do not suffice."""
    if start >= len(data) or data[start] == 0:
        return None
    length = 9 - data[start].bit_length()
    raw = data[start : start + length]
    if len(raw) < length:
        return None
    value = int.from_bytes(raw, "big") & ((1 << 7 * length) - 1)
    return value, length, value == (1 << 7 * length) - 1


def _matroska_end(file: BinaryIO) -> int | None:
    file.seek(0)
    head = file.read(_HEAD)
    header = _vint(head, 4) if head[:4] == b"\x1a\x45\xdf\xa3" else None
    if header is None or header[2]:
        return None
    start = 4 + header[1] + header[0]
    segment = _vint(head, start + 4) if head[start : start + 4] == b"\x18\x53\x80\x67" else None
    if segment is None or segment[2]:
        return None
    return start + 4 + segment[1] + segment[0]


def _riff_end(file: BinaryIO, size: int) -> int | None:
    end = None
    start = 0
    while start + 12 <= size:
        file.seek(start)
        header = file.read(12)
        length = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):
            break
        end = start + 8 + length
        start = end + (length & 1)
    return end


def _is_zero(path: Path, start: int, end: int) -> bool:
    with path.open("rb") as file:
        file.seek(start)
        return not file.read(end - start).strip(b"\0")
