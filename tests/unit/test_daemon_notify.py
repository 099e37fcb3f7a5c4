# SPDX-License-Identifier: Apache-2.0
"""What reaches a socket such as systemd's."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.daemon.notify import Notifier
from pipeline.testing import ManualClock


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@pipeline-{os.getpid()}-{id(tmp_path)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0" + name[1:] if name.startswith("@") else name)
        end.settimeout(0)
        yield end, name


def heard(end: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(end.recv(4096).decode())
        except BlockingIOError:
            return found


def test_everything_is_told(listening: tuple[socket.socket, str]) -> None:
    end, name = listening
    clock = ManualClock(5_000_000)
    notify = Notifier(clock.now_ns, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "10000000"})
    notify.ready()
    notify.status("3 of 4 streams live")
    notify.reloading()
    notify.stopping()
    assert heard(end) == [
        "READY=1",
        "STATUS=3 of 4 streams live",
        "RELOADING=1\nMONOTONIC_USEC=5000",
        "STOPPING=1",
    ]
    for _ in range(100):  # 20 s in passes of 0.2 s
        notify.alive()
        clock.advance(200_000_000)
    assert heard(end) == ["WATCHDOG=1"] * 4, "twice per period"


def test_the_watchdog_may_be_somebody_elses(listening: tuple[socket.socket, str]) -> None:
    end, name = listening
    clock = ManualClock()
    for more in ({}, {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}):
        Notifier(clock.now_ns, {"NOTIFY_SOCKET": name, **more}).alive()
    assert heard(end) == []


@pytest.mark.parametrize("address", [None, "/nowhere/at/all", "not a path"])
def test_nobody_listens(address: str | None, caplog: pytest.LogCaptureFixture) -> None:
    notify = Notifier(ManualClock().now_ns, {} if address is None else {"NOTIFY_SOCKET": address})
    with caplog.at_level(logging.DEBUG):
        notify.ready()
        notify.status("alone")
    assert [record.levelno for record in caplog.records] == ([] if address is None else [logging.DEBUG] * 2)


def test_a_full_socket_holds_nobody_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(name)
        notify = Notifier(ManualClock().now_ns, {"NOTIFY_SOCKET": name})
        with caplog.at_level(logging.DEBUG):
            for _ in range(1000):
                notify.status("x" * 1000)
        assert 0 < len(caplog.records) < 1000, "some were taken, the others were let go"
        assert end.recv(2000) == b"STATUS=" + b"x" * 1000
