# SPDX-License-Identifier: Apache-2.0
"""Pictures out of RTP payloads: whole, in order, nothing lost, and as early as the camera's habits allow."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sources.access_units import MOST_BYTES, WATCHED, AccessUnit, AccessUnits
from pipeline.sources.nal import GRAMMARS

CODE = b"\0\0\0\1"
SPS, PPS, AUD, SEI, FILLER = b"\x67ab", b"\x68c", b"\x09\xf0", b"\x06\x05\x01x\x80", b"\x0c\xff\xff\x80"
RECOVERY = b"\x06\x06\x01\xc4\x80"
Packet = tuple[bytes, int | None]


@dataclass(frozen=True)
class Picture:
    """Its NAL units; those of its slices have a random number of bytes."""

    units: tuple[bytes, ...]
    pts: int | None


def h264_slice(rng: random.Random, size: int, *, key: bool, first: bool) -> bytes:
    head = bytes([0x65 if key else 0x41, 0x88 if first else 0x48])
    return head + bytes(rng.choices(range(1, 256), k=size))


def hevc_slice(rng: random.Random, size: int, *, key: bool, first: bool) -> bytes:
    head = bytes([(19 if key else 1) << 1, 1, 0x80 if first else 0x20])
    return head + bytes(rng.choices(range(1, 256), k=size))


def film(
    slices: Sequence[int], sizes: Sequence[int], *, seed: int = 0, gop: int = 5, stamps: bool = True
) -> list[Picture]:
    """A picture per number in ``slices``; ``sizes`` are gone through for the sizes of the slices."""
    rng = random.Random(seed)
    size = itertools.cycle(sizes)
    made = []
    for number, count in enumerate(slices):
        key = number % gop == 0
        parts = [h264_slice(rng, next(size), key=key, first=not at) for at in range(count)]
        made.append(Picture((SPS, PPS, SEI, *parts) if key else tuple(parts), 6000 * number if stamps else None))
    return made


def payloads(pictures: Sequence[Picture], mtu: int, header: int = 1) -> Iterator[list[Packet]]:
    """As libav shows the RTP packets of a sender that fills its fragments (RFC 6184, RFC 7798), by picture."""
    room = mtu - header - 1
    for picture in pictures:
        packets: list[Packet] = []
        for unit in picture.units:
            if len(unit) <= mtu:
                packets.append((CODE + unit, picture.pts))
                continue
            body = unit[header:]
            pieces = [body[at : at + room] for at in range(0, len(body), room)]
            pieces[0] = CODE + unit[:header] + pieces[0]
            packets += [(piece, picture.pts) for piece in pieces]
        yield packets


def whole(picture: Picture) -> bytes:
    return b"".join(CODE + unit for unit in picture.units)


def run(packets: Sequence[Packet], codec: str = "h264") -> tuple[list[AccessUnit], AccessUnits]:
    units = AccessUnits(GRAMMARS[codec])
    done = [unit for data, pts in packets for unit in units.add(data, pts)]
    return done + units.flush(), units


SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4), SIZES, st.integers(20, 300), st.integers(0, 99), st.booleans())
def test_however_it_is_cut_the_pictures_are_the_same(
    slices: int, sizes: list[int], mtu: int, seed: int, stamps: bool
) -> None:
    """A camera with a fixed number of slices: the same pictures at every packet size, none late."""
    pictures = film([slices] * 40, sizes, seed=seed, stamps=stamps)
    done, units = run([packet for packets in payloads(pictures, mtu) for packet in packets])
    assert [(unit.data, unit.pts) for unit in done] == [(whole(picture), picture.pts) for picture in pictures]
    assert [unit.key for unit in done] == [number % 5 == 0 for number in range(40)]
    assert units.mistakes == 0


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=120), SIZES, st.integers(20, 300))
def test_a_camera_without_habits_gets_one_unit_per_picture_too(slices: list[int], sizes: list[int], mtu: int) -> None:
    pictures = film(slices, sizes)
    packets = [packet for packets in payloads(pictures, mtu) for packet in packets]
    done, units = run(packets)
    assert b"".join(unit.data for unit in done) == b"".join(data for data, _ in packets)
    shown = [unit for unit in done if not unit.late]
    assert [unit.pts for unit in shown] == [picture.pts for picture in pictures]
    assert all(whole(picture).startswith(unit.data) for unit, picture in zip(shown, pictures, strict=True))
    cut = sum(unit.data != whole(picture) for unit, picture in zip(shown, pictures, strict=True))
    assert cut == units.mistakes
    assert WATCHED * (2**units.mistakes - 1) <= WATCHED + 6 * len(pictures), "each mistake doubles the patience"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"", CODE, b"\0\0\1", SPS, CODE + SPS]),
            st.binary(max_size=40),
            st.sampled_from([None, 1, 2]),
        ),
        max_size=60,
    ),
    st.sampled_from(sorted(GRAMMARS)),
)
def test_no_byte_is_lost_whatever_comes(parts: list[tuple[bytes, bytes, int | None]], codec: str) -> None:
    packets = [(head + body, pts) for head, body, pts in parts]
    done, _ = run(packets, codec)
    assert b"".join(unit.data for unit in done) == b"".join(data for data, _ in packets)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 30))
def test_lost_packets_never_join_two_pictures(seed: int, slices: int, percent: int) -> None:
    pictures = film([slices] * 80, [30, 700, 250, 90], seed=seed)
    rng = random.Random(seed)
    kept = [packet for packets in payloads(pictures, 100) for packet in packets if rng.randrange(100) >= percent]
    done, _ = run(kept)
    assert b"".join(unit.data for unit in done) == b"".join(data for data, _ in kept)
    for unit in done:
        assert sum(unit.data.count(CODE + head) for head in (b"\x65\x88", b"\x41\x88")) <= 1
    assert [unit.pts for unit in done] == sorted(unit.pts or 0 for unit in done)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("slices", [1, 3])
def test_a_picture_comes_with_its_last_packet(codec: str, slices: int) -> None:
    """Once the habits are known; a last fragment that is full waits for the next picture."""
    rng = random.Random(1)
    draw = hevc_slice if codec == "hevc" else h264_slice
    header = 2 if codec == "hevc" else 1
    early = held = 0
    units = AccessUnits(GRAMMARS[codec])
    for number in range(200):
        sizes = [rng.randrange(20, 900) for _ in range(slices)]
        parts = [draw(rng, size, key=number % 10 == 0, first=not at) for at, size in enumerate(sizes)]
        (packets,) = payloads([Picture(tuple(parts), number)], 100, header)
        done = [unit for data, pts in packets for unit in units.add(data, pts)]
        full = len(packets[-1][0]) >= 98 - header
        if number > 40 and not full:
            assert [unit.pts for unit in done][-1:] == [number]
            early += 1
        held += number > 40 and full
    assert units.mistakes == 0
    assert early > 120
    assert held, "the doubtful case was among them"


def test_what_follows_the_last_slice_goes_with_the_next_picture() -> None:
    """Filler data after a picture that was handed out: no mistake."""
    pictures = [Picture((*picture.units, FILLER), picture.pts) for picture in film([1] * 60, [50, 300])]
    done, units = run([packet for packets in payloads(pictures, 100) for packet in packets])
    assert b"".join(unit.data for unit in done) == b"".join(map(whole, pictures))
    assert not any(unit.late for unit in done)
    assert len([unit for unit in done if b"\x88" in unit.data]) == 60
    assert units.early > 30
    assert units.mistakes == 0


def test_parameter_sets_may_carry_the_stamp_of_the_picture_before() -> None:
    packets: list[Packet] = []
    for number in range(30):
        packets += [(CODE + SPS, number - 1), (CODE + PPS, number - 1), (CODE + b"\x65\x88" + b"x" * 50, number)]
    done, units = run(packets)
    assert [unit.pts for unit in done] == list(range(30))
    assert all(unit.key and unit.data.startswith(CODE + SPS) for unit in done)
    assert units.early > 20


def test_fragments_of_equal_size_are_found_out_before_anything_is_lost() -> None:
    """A sender that cuts evenly: its last fragments are not shorter, so nothing is foretold wrongly for long."""
    rng = random.Random(3)
    packets: list[Packet] = []
    for number in range(400):
        body = h264_slice(rng, rng.randrange(60, 900), key=number % 10 == 0, first=True)
        count = -(-len(body) // 100)
        room = -(-len(body) // count)
        pieces = [body[at : at + room] for at in range(0, len(body), room)]
        packets += [(piece if at else CODE + piece, number) for at, piece in enumerate(pieces)]
    done, units = run(packets)
    shown = [unit for unit in done if not unit.late]
    assert [unit.pts for unit in shown] == list(range(400))
    assert units.mistakes <= 3


def test_recovery_points_are_key_frames_as_for_libav() -> None:
    packets = [(CODE + RECOVERY, 0), (CODE + b"\x41\x88xy", 0), (CODE + SEI, 1), (CODE + b"\x41\x88xy", 1)]
    assert [unit.key for unit in run(packets)[0]] == [True, False]


def test_a_mistake_is_watched_twice_as_long() -> None:
    """Another number of slices, once in a while: the rest comes late, once each, less and less often."""
    pictures = film([2 if number % 40 == 39 else 1 for number in range(400)], [50], gop=1000)
    done, units = run([packet for packets in payloads(pictures, 100) for packet in packets])
    assert [unit.pts for unit in done if not unit.late] == [picture.pts for picture in pictures]
    assert units.mistakes == sum(unit.late for unit in done) == 2


def test_a_picture_without_end_is_handed_out_in_parts() -> None:
    piece = b"x" * (1 << 20)
    packets = [(CODE + b"\x65\x88", 0)] + [(piece, 0)] * 40
    units = AccessUnits(GRAMMARS["h264"])
    sizes = [len(unit.data) for data, pts in packets for unit in units.add(data, pts)]
    assert max(sizes) < MOST_BYTES + len(piece)
    assert sum(sizes) + sum(len(unit.data) for unit in units.flush()) == 6 + 40 * len(piece)
