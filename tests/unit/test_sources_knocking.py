# SPDX-License-Identifier: Apache-2.0
"""Who answers, who refuses, and who does not answer at all."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.errors import SourceTimeout, SourceUnavailable
from pipeline.redact import SourceUrl
from pipeline.sources import knock
from pipeline.sources.knocking import unknown_host


def url(port: int) -> SourceUrl:
    return SourceUrl.parse(f"rtsp://viewer:hunter2@127.0.0.1:{port}/1")


def test_somebody_answers_or_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        knock(url(port), 5.0)
    with pytest.raises(SourceUnavailable, match="connection refused") as caught:
        knock(url(port), 5.0)
    assert caught.value.cause == "refused"
    assert "hunter2" not in str(caught.value)


@contextmanager
def silent() -> Iterator[int]:
    """The port of a listener whose queue is full: it drops what comes, as a camera does that is switched off."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port: int = server.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            yield port
        finally:
            for filler in fillers:
                filler.close()


def test_nobody_answers() -> None:
    began = time.monotonic()
    with silent() as port, pytest.raises(SourceTimeout) as caught:
        knock(url(port), 0.3)
    assert time.monotonic() - began < 3.0
    assert caught.value.cause == "timeout"
    assert "hunter2" not in str(caught.value)


def named(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """A name that stands for several addresses, tried in this order."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)


def test_all_addresses_of_a_name_have_one_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent() as port:
        named(monkeypatch, *[port] * 20)
        began = time.monotonic()
        with pytest.raises(SourceTimeout):
            knock(url(port), 0.5)
    assert time.monotonic() - began < 5.0, "each would have had 0.5 s for itself"


def test_an_address_that_is_dead_leaves_time_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent() as dead, socket.create_server(("127.0.0.1", 0)) as server:
        named(monkeypatch, dead, server.getsockname()[1])
        began = time.monotonic()
        knock(url(dead), 1.0)
        assert 0.4 < time.monotonic() - began < 10.0


def test_what_is_no_name_of_a_host() -> None:
    with pytest.raises(SourceUnavailable, match="cannot be the name of a host"):
        knock(SourceUrl.parse(f"rtsp://{'a' * 70}.example/1"), 1.0)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (socket.EAI_NONAME, "unknown host no-such-camera"),
        (socket.EAI_AGAIN, "the name server gives no answer"),
        (None, None),
    ],
)
def test_an_unknown_name_is_told_from_a_silent_name_server(
    number: int | None, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def look_up(host: object, *_: object, **__: object) -> list[object]:
        asked.append(host)
        if number is not None:
            raise socket.gaierror(number, "no")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert unknown_host("rtsp://viewer:hunter2@no-such-camera:8554/1") == said
    assert asked == [b"no-such-camera"]


def test_an_address_or_a_device_is_no_unknown_host() -> None:
    for address in ("rtsp://127.0.0.1:1/x", "rtsp://[::1]:1/x", "/dev/video0"):
        assert unknown_host(address) is None
    assert unknown_host("rtsp://k\u00e4mera/x") == "unknown host"
