# SPDX-License-Identifier: Apache-2.0
"""What a decoding process says is not believed: numbers out of range, memory that could be cut off, odd words."""

from __future__ import annotations

import fcntl
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DecodeError, SourceInvalid, SourceUnavailable
from pipeline.frame import Capture, Picture, StreamInfo
from pipeline.sources.isolation import wire
from pipeline.sources.isolation.confinement import environment
from pipeline.sources.isolation.loans import LENT, Loans
from pipeline.sources.isolation.nonsense import Nonsense
from pipeline.sources.isolation.process import Isolation
from pipeline.sources.isolation.segment import SLOTS, Segment


def capture(layout: str = "yuv", shift: int = 0) -> Capture:
    rng = np.random.default_rng(shift)
    shapes = {"yuv": [(48, 64), (24, 32), (24, 32)], "rgb": [(48, 64, 3)], "gray": [(48, 64)]}[layout]
    planes = tuple(rng.integers(0, 256, (*shape[:1], shape[1] + 8, *shape[2:]), np.uint8)[:, 4:-4] for shape in shapes)
    picture = Picture(planes, layout, "bt709", True, 90)  # type: ignore[arg-type]
    at_ns = 1_700_000_000_000_000_000
    return Capture(picture, 17, 1.25, 10**9 + 1, 10**9 + 5, at_ns, 3, True, camera_ns=at_ns - 1_000_000)


@pytest.mark.parametrize("layout", ["yuv", "rgb", "gray"])
def test_a_capture_arrives_as_it_left(layout: str) -> None:
    one = capture(layout)
    sent = wire.Sent.of(5, one, (1, 2, 3))
    segment, fd = Segment.make(0, 1 << 16)
    theirs = Segment.taken(0, fd, 1 << 16, 1 << 16)
    segment.fill(2, one.picture.planes)
    heard = wire.Sent.parse(sent.pack())
    assert heard == sent
    assert heard.counted == (1, 2, 3)
    other = heard.capture(wire.planes_of(heard, theirs.bytes_of(2, sum(heard.sizes))))
    for mine, yours in zip(one.picture.planes, other.picture.planes, strict=True):
        np.testing.assert_array_equal(mine, yours)
    for name in ("index", "pts_s", "read_ns", "decoded_ns", "wall_ns", "epoch", "corrupt", "missed", "camera_ns"):
        assert getattr(one, name) == getattr(other, name)
    assert (other.picture.layout, other.picture.matrix, other.picture.full_range, other.picture.rotation) == (
        layout, "bt709", True, 90,
    )  # fmt: skip


@given(st.binary(max_size=300))
def test_no_bytes_are_anything_but_sound_or_nonsense(noise: bytes) -> None:
    for parse in (wire.Sent.parse, wire.parse_memory, wire.parse_json):
        try:
            parse(b"?" + noise)
        except Nonsense:
            continue


@given(st.integers(0, wire._FRAME.size - 1), st.integers(0, 255))
def test_a_frame_with_one_wrong_byte_has_planes_that_fit_what_it_says(place: int, byte: int) -> None:
    message = bytearray(wire.Sent.of(5, capture(), (0, 0, 0)).pack())
    message[1 + place] = byte
    try:
        sent = wire.Sent.parse(bytes(message))
    except Nonsense:
        return
    size = sum(sent.sizes)
    if size <= 1 << 20:
        planes = wire.planes_of(sent, np.zeros(size, np.uint8))
        assert sum(plane.size for plane in planes) == size


@pytest.mark.parametrize(
    "odd",
    [
        {"pts_s": float("inf")}, {"pts_s": float("nan")}, {"pts_s": 1e12}, {"read_ns": -1}, {"read_ns": 1 << 62},
        {"decoded_ns": 1 << 62}, {"wall_ns": -1}, {"wall_ns": 1 << 62}, {"camera_ns": 1 << 62},
        {"camera_ns": -1 << 62}, {"index": -1}, {"missed": 18},
    ],
)  # fmt: skip
def test_times_and_numbers_that_cannot_be_are_nonsense(odd: dict[str, Any]) -> None:
    message = replace(wire.Sent.of(5, capture(), (0, 0, 0)), **odd).pack()
    with pytest.raises(Nonsense):
        wire.Sent.parse(message)


@pytest.mark.parametrize("what", ["unsealed", "too large", "of another size"])
def test_memory_that_could_be_cut_off_is_refused(what: str) -> None:
    fd = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SLOTS * 4096)
    if what != "unsealed":
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    before = len(os.listdir("/proc/self/fd"))
    slot, largest = (8192, 1 << 20) if what == "of another size" else (4096, 1024 if what == "too large" else 1 << 20)
    with pytest.raises(Nonsense):
        Segment.taken(0, fd, slot, largest)
    assert len(os.listdir("/proc/self/fd")) == before - 1


@pytest.mark.parametrize("what", ["a short message", "a pipe", "a file"])
def test_what_is_no_memory_is_refused_and_closed(what: str, tmp_path: Path) -> None:
    segment, fd = Segment.make(0, 4096)
    message = wire.pack_memory(1, segment)
    before = os.listdir("/proc/self/fd")
    if what == "a pipe":
        os.close(fd)
        fd, other = os.pipe()
        os.close(other)
    elif what == "a file":
        os.close(fd)
        fd = os.open(tmp_path / "a", os.O_CREAT | os.O_RDWR)
        os.ftruncate(fd, SLOTS * 4096)
    with pytest.raises(Nonsense):
        wire.take_memory(message[:-1] if what == "a short message" else message, fd, 4096)
    assert len(os.listdir("/proc/self/fd")) == len(before) - 1


def test_errors_and_facts() -> None:
    for error in (DecodeError("a: 100 packets"), SourceInvalid("a: no"), SourceUnavailable("a: 401", cause="auth")):
        number, known, counted = wire.parse_json(wire.pack_error(4, error, (1, 2, 3)))
        again = wire.error_of(known)
        assert (number, counted, type(again), str(again), again.cause) == (
            4,
            [1, 2, 3],
            type(error),
            str(error),
            error.cause,
        )
    info = StreamInfo("", 640, 360, fps=15.0, live=True, codec="h264")
    assert wire.info_of(wire.parse_json(wire.pack_info(4, info))[1]) == info


@pytest.mark.parametrize(
    "known",
    [{}, {"kind": "SystemExit", "text": "", "cause": "io"}, {"kind": "SourceError", "text": "a", "cause": "because"}],
)
def test_errors_of_other_kinds_are_nonsense(known: dict[str, str]) -> None:
    with pytest.raises(Nonsense):
        wire.error_of(known)


@pytest.mark.parametrize("known", [{}, {"width": -1}, {"width": 1, "height": 1 << 20, "fps": 1.0, "codec": "h264"}])
def test_streams_that_cannot_be_are_nonsense(known: dict[str, object]) -> None:
    with pytest.raises(Nonsense):
        wire.info_of(known)


def test_slots_are_lent_until_nobody_looks_and_copied_where_many_do() -> None:
    segment, fd = Segment.make(0, 4096)
    os.close(fd)
    loans = Loans(segment)
    views = []
    for slot in range(LENT + 1):
        segment.fill(slot, [np.full((8, 8), slot, np.uint8)])
        assert loans.has(0, slot, 64)
        views.append(loans.lend(slot, 64)[8:].reshape(7, 8))
    assert loans.given_back() == [(0, LENT)], "the last one was copied"
    segment.fill(LENT, [np.full((8, 8), 99, np.uint8)])
    assert [int(view[0, 0]) for view in views] == list(range(LENT + 1))
    assert not loans.has(0, 1, 64), "it is being looked at"
    assert not loans.has(1, 5, 64)
    assert not loans.has(0, SLOTS, 64)
    assert not loans.has(0, 5, 4097)
    part = views[1][2:4, 1:3]
    del views[1]
    assert loans.given_back() == [], "a part of it is"
    del part
    assert loans.given_back() == [(0, 1)]
    assert loans.given_back() == []


def test_the_environment_is_made_anew() -> None:
    given = {"PATH": "/bin", "GATE_PASSWORD": "hunter2", "TZ": "UTC", "LD_PRELOAD": "x.so"}
    made = environment(given)
    assert (made["PATH"], made["TZ"]) == ("/bin", "UTC")
    assert "hunter2" not in str(made)
    assert "LD_PRELOAD" not in made


def test_what_a_process_says_floods_no_log(caplog: pytest.LogCaptureFixture) -> None:
    home = Isolation("gate", memory_mb=512, largest_picture=1 << 20)
    with caplog.at_level(logging.INFO):
        for number in range(1000):
            home._log(wire.SAID + bytes([logging.INFO]) + f"line {number}\nand rtsp://me:secret@camera/1".encode())
    assert len(caplog.records) < 10
    assert caplog.messages[0].startswith("gate: line 0 and rtsp://")
    assert "secret" not in caplog.text
