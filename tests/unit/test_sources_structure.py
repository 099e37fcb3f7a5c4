# SPDX-License-Identifier: Apache-2.0
"""What the bytes of a container say, on containers put together by hand from their specifications."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import SourceInvalid, SourceUnavailable
from pipeline.sources import structure
from tests.media import Media, media

__all__ = ["media"]


def box(name: bytes, size: int, declared: int | None = None) -> bytes:
    length = size + 8 if declared is None else declared
    return length.to_bytes(4, "big") + name + b"\x11" * size


def matroska(body: int, declared: int | None) -> bytes:
    """An EBML header and a Segment of ``body`` bytes; ``declared`` None is the unknown size of live recordings."""
    size = b"\x01" + b"\xff" * 7 if declared is None else (declared | 1 << 56).to_bytes(8, "big")
    return b"\x1a\x45\xdf\xa3\x84\x42\x86\x81\x01" + b"\x18\x53\x80\x67" + size + b"\x11" * body


def riff(size: int, declared: int) -> bytes:
    return b"RIFF" + declared.to_bytes(4, "little") + b"AVI " + b"\x11" * (size - 4)


CASES = [
    ("mov", box(b"ftyp", 12) + box(b"moov", 50) + box(b"mdat", 100), None),
    ("mov", box(b"ftyp", 12) + box(b"moov", 50) + box(b"mdat", 60, 108), "40 of 186 bytes"),
    ("mov", box(b"ftyp", 12) + box(b"mdat", 60, 0), None),
    ("mov", box(b"ftyp", 12) + b"\0\0\0\1mdat" + (1000).to_bytes(8, "big") + b"x" * 84, "900 of 1020 bytes"),
    ("mov", box(b"moov", 50) + box(b"abcd", 10, 4000), None),
    ("mov", box(b"moov", 50) + b"\xff" * 40, None),
    ("mov", box(b"moof", 50) + box(b"mdat", 10) + box(b"moof", 4, 58), "46 of"),
    ("matroska,webm", matroska(200, 200), None),
    ("matroska,webm", matroska(120, 200), "80 of 221 bytes"),
    ("matroska,webm", matroska(120, None), None),
    ("matroska,webm", b"\x1a\x45\xdf\xa3", None),
    ("avi", riff(200, 200), None),
    ("avi", riff(150, 200), "50 of 208 bytes"),
    ("avi", riff(200, 200) + riff(100, 300), "200 of 516 bytes"),
    ("avi", riff(200, 0), None),
    ("avi", riff(200, 0xFFFFFFFF), None),
    ("mpegts", (b"\x47" + b"\x11" * 187) * 5, None),
    ("mpegts", (b"\x47" + b"\x11" * 187) * 5 + b"\x47" * 100, "88 of 1128 bytes"),
    ("h264", b"\0\0\0\1" * 30, None),
]


@pytest.mark.parametrize(("name", "content", "expected"), CASES)
def test_shortfall(tmp_path: Path, name: str, content: bytes, expected: str | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    found = structure.shortfall(path, name)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(expected)


def test_a_file_of_full_length_that_ends_in_zeros_is_not_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(matroska(200_000, 200_000))
    assert structure.is_complete(path, "matroska,webm")
    with path.open("r+b") as file:  # as a download into a file of the final size leaves it
        file.seek(100_000)
        file.write(bytes(path.stat().st_size - 100_000))
    assert structure.shortfall(path, "matroska,webm") is None
    assert not structure.is_complete(path, "matroska,webm")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
def test_real_muxers_agree_with_their_specifications(media: Media, suffix: str) -> None:
    codec = {"avi": "mpeg4"}.get(suffix, "libx264")
    data = media.clip(suffix, count=10, codec=codec, options=None).read_bytes()
    name = {"mp4": "mov,mp4", "mkv": "matroska,webm", "avi": "avi", "ts": "mpegts"}[suffix]
    whole = media.file(f"whole.{suffix}", data)
    assert structure.shortfall(whole, name) is None
    assert structure.is_complete(whole, name)
    for cut in (1, 100, len(data) // 3):
        assert structure.shortfall(media.file(f"cut.{suffix}", data[:-cut]), name) is not None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.binary(max_size=300), st.sampled_from(["mov", "matroska,webm", "avi", "mpegts"]), st.integers(0, len(CASES) - 1)
)
def test_hostile_bytes_only_yield_a_verdict(tmp_path: Path, noise: bytes, name: str, base: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(CASES[base][1][: len(noise)] + noise)
    structure.shortfall(path, name)
    structure.is_complete(path, name)
    structure.describe(path)


REFUSED = [
    (b"", "the file is empty"),
    (bytes(5000), "first 5000 bytes are all zero"),
    (b"#EXTM3U\n#EXT-X-VERSION:3\n", "an HLS playlist"),
    (b"\xef\xbb\xbf\n#EXTM3U\n", "an HLS playlist"),
    (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "an ffconcat playlist"),
    (b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg">', "a DASH manifest"),
    (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", "an SDP file"),
    (b"[playlist]\nFile1=x\n", r"a playlist \(pls\)"),
    (b"<asx version='3.0'>", r"a playlist \(asx\)"),
    (b"<!DOCTYPE html><html>", "an HTML page"),
    (b'{"a": 1}', "a text file"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"PK\x03\x04rest", "a ZIP archive"),
]


@pytest.mark.parametrize(("content", "reason"), REFUSED)
def test_other_files_are_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceInvalid, match=f"clip.mp4: .*{reason}") as caught:
        structure.inspect(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(SourceInvalid, match="a folder"):
        structure.inspect(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceInvalid, match="a pipe or device"):
        structure.inspect(tmp_path / "pipe")
    with pytest.raises(SourceUnavailable, match="no such file") as caught:
        structure.inspect(tmp_path / "nothing.mp4")
    assert caught.value.cause == "not_found"
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        structure.inspect(Path("x" * 5000))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SourceUnavailable, match="loop"):
        structure.inspect(tmp_path / "loop")
