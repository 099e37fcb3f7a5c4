# SPDX-License-Identifier: Apache-2.0
"""Who holds sockets open, with and without having said anything, takes none from others."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from pipeline.web.door import Door, _groups


class Waiting:
    """Peers that want in, one socket pair each."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []
        self.addresses: list[str] = []

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.addresses:
            raise BlockingIOError
        here, there = socket.socketpair()
        self.ends.append(there)
        return here, (self.addresses.pop(0), 50_000)

    def hung_up(self) -> list[bool]:
        found = []
        for end in self.ends:
            end.setblocking(False)
            try:
                found.append(end.recv(1) == b"")
            except BlockingIOError:
                found.append(False)
        return found


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Any:
    waiting = Waiting()
    monkeypatch.setattr(socket.socket, "accept", waiting.accept)
    yield waiting
    for end in waiting.ends:
        end.close()


def all_let_in(door: Door) -> list[socket.socket]:
    found = []
    while True:
        try:
            found.append(door.accept()[0])
        except BlockingIOError:
            return found


def test_one_address_cannot_take_all(waiting: Waiting) -> None:
    with Door() as door:
        door.most, door.most_each = 6, 2
        waiting.addresses = ["192.0.2.1"] * 4 + ["192.0.2.2", "::ffff:192.0.2.1"]
        inside = all_let_in(door)
        assert waiting.hung_up() == [False, False, True, True, False, True]
        inside[0].close()
        inside[0].close()
        waiting.addresses = ["192.0.2.1"] * 2
        inside += all_let_in(door)
        assert waiting.hung_up()[-2:] == [False, True], "a place is free again, once"
        for each in inside:
            each.close()
        assert not door._open, "nothing is kept of who has gone"


def test_all_others_together_leave_room_for_this_machine(waiting: Waiting) -> None:
    with Door() as door:
        door.most, door.most_each = 4, 2
        waiting.addresses = [f"192.0.2.{number}" for number in range(6)] + ["127.0.0.1"] * 3 + ["::1", "127.0.0.2"]
        inside = all_let_in(door)
        assert waiting.hung_up() == [False] * 4 + [True] * 2 + [False] * 4 + [True]
        for each in inside:
            each.close()


def test_a_flood_does_not_keep_the_loop(waiting: Waiting) -> None:
    with Door() as door:
        door.most = 0
        waiting.addresses = ["192.0.2.1"] * 1000
        with pytest.raises(BlockingIOError):
            door.accept()
        assert len(waiting.addresses) > 900


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::7", "2001:0db8:0001:0002"),
        ("2001:db8:1:2:ffff::8", "2001:0db8:0001:0002"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
    ],
)
def test_addresses_of_one_client_count_as_one(address: str, group: str) -> None:
    assert _groups((address, 1))[1:] == (group,)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machine(address: str) -> None:
    assert _groups((address, 1)) == ("this machine",)
