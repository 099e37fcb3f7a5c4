# SPDX-License-Identifier: Apache-2.0
"""Packets on their way from a decoding process: all of them, or a count of those that are missing; and no nonsense."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import orjson
import pytest
from av.packet import Packet
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.isolation.nonsense import Nonsense
from pipeline.sources.isolation.relay import MOST_LEFT_OUT, Listener, Relay, Track
from tests.background import Background

HEAD = struct.Struct("<cIIq?q?")
TRACK = Track("h264", Fraction(1, 90000), 25.0, 1920, 1080, "", b"\0\0\0\1sets")


class Heard:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.packets: list[tuple[bytes, int | None, int, bool]] = []
        self.lost: list[tuple[int, int]] = []  # after so many packets, so many

    def track(self, track: Track) -> None:
        self.tracks.append(track)

    def passed(self, data: bytes, pts: int | None, read_ns: int, *, key: bool) -> None:
        self.packets.append((data, pts, read_ns, key))

    def missed(self, packets: int) -> None:
        self.lost.append((len(self.packets), packets))


class Ends:
    """Both ends of a line."""

    def __init__(self, rest: int = 1 << 20) -> None:
        ours, self.theirs = socket.socketpair()
        self.heard = Heard()
        self.listener = Listener(ours, self.heard)
        self.relay = Relay(self.theirs, rest)


@pytest.fixture
def ends() -> Iterator[Ends]:
    both = Ends()
    yield both
    both.theirs.close()
    both.listener.end(0)


def packet(data: bytes, pts: int | None = 0, *, key: bool = False) -> Any:
    one = Packet(data)
    one.pts, one.is_keyframe = pts, key
    return one


def test_packets_come_as_they_left(ends: Ends) -> None:
    given_in = [
        (bytes([number]) * (1 + 977 * number), number - 3, 100 + number, number % 4 == 0) for number in range(40)
    ]
    given_in[5] = (given_in[5][0], None, *given_in[5][2:])
    for data, pts, read_ns, key in given_in:
        ends.relay.packet(packet(data, pts, key=key), read_ns)
        assert ends.listener.take()
    assert ends.heard.packets == given_in
    assert (ends.heard.lost, ends.listener.heard) == ([], 40)


def test_what_nobody_reads_is_left_out_and_counted() -> None:
    """Neither end waits. What comes next says how many are missing, and the sum is right."""
    ends = Ends(rest=100_000)
    for number in range(1000):
        ends.relay.packet(packet(bytes(20_000), number), 1)
    for _ in range(4):
        ends.listener.take()
        ends.relay.flush(0.0)
    came = len(ends.heard.packets)
    assert 0 < came < 1000
    ends.relay.packet(packet(b"next", 1000), 1)
    assert ends.listener.take()
    assert ends.heard.lost == [(came, 1000 - came)]
    assert ends.heard.packets[-1][:2] == (b"next", 1000)
    assert ends.listener.heard == 1001
    ends.theirs.close()
    assert not ends.listener.take()
    ends.listener.end(1001)


def test_a_process_that_dies_leaves_what_it_sent_and_a_count_of_the_rest(ends: Ends) -> None:
    for number in range(3):
        ends.relay.packet(packet(b"x" * 50, number), 1)
    ends.theirs.send(HEAD.pack(b"P", 1000, 0, 1, True, 3, False) + b"torn")
    ends.theirs.close()
    ends.listener.end(5)  # so many it had counted where both look
    assert len(ends.heard.packets) == 3
    assert ends.heard.lost == [(3, 2)]


def test_the_end_does_not_wait_for_somebody_else_who_holds_the_line(ends: Ends) -> None:
    """A decoder that was taken over may have started a process of its own, which outlives it."""
    with ends.theirs.dup() as other:
        ends.relay.packet(packet(b"x" * 50), 1)
        ends.theirs.close()
        ending = Background(lambda: ends.listener.end(2))
        try:
            ending.result()
        finally:
            other.shutdown(socket.SHUT_RDWR)
    assert len(ends.heard.packets) == 1
    assert ends.heard.lost == [(1, 1)]


def test_a_track_comes_as_it_left() -> None:
    for track in (TRACK, Track("rawvideo", Fraction(1, 1_000_000), None, 0, 0, "YUY2")):
        assert Track.parse(track.pack()) == track


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, "h264; rm"), (0, "ass"), (0, 7), (1, [0, 1]), (1, [1, 2**40]), (1, 3), (2, -1.0), (2, 1e9), (2, "25"),
        (3, -1), (3, 1 << 20), (4, 1.5), (5, "toolong"), (5, "\n\n\n\n"), (6, "zz"), (6, None),
    ],
)  # fmt: skip
def test_a_track_that_cannot_be_is_nonsense(position: int, value: Any) -> None:
    facts: list[Any] = ["h264", [1, 90000], 25.0, 1920, 1080, "", ""]
    facts[position] = value
    with pytest.raises(Nonsense):
        Track.parse(orjson.dumps(facts))


@pytest.mark.parametrize(
    "said",
    [
        HEAD.pack(b"?", 0, 0, 1, True, 0, True),
        HEAD.pack(b"P", 1 << 31, 0, 1, True, 0, True),
        HEAD.pack(b"T", 1 << 20, 0, 1, True, 0, True),
        HEAD.pack(b"P", 0, MOST_LEFT_OUT + 1, 1, True, 0, True),
        HEAD.pack(b"P", 0, 0, -1, True, 0, True),
        HEAD.pack(b"P", 0, 0, 1 << 62, True, 0, True),
        HEAD.pack(b"P", 0, 0, 1, True, -(1 << 62), True),
    ],
)
def test_numbers_that_cannot_be_are_nonsense(ends: Ends, said: bytes) -> None:
    ends.theirs.send(said)
    with pytest.raises(Nonsense):
        ends.listener.take()


@given(st.binary(max_size=400))
def test_no_bytes_do_anything_else(noise: bytes) -> None:
    ends = Ends()
    ends.theirs.send(noise)
    with suppress(Nonsense):
        ends.listener.take()
    ends.theirs.close()
    ends.listener.end(0)
    assert all(isinstance(track, Track) for track in ends.heard.tracks)
