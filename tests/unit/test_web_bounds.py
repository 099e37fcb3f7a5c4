# SPDX-License-Identifier: Apache-2.0
"""What SECURITY.md promises of clients: what they may send, how long they may take, how many there may be."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from pipeline.redact import Secret
from pipeline.web import Limits, WebServer
from pipeline.web.access import Access
from pipeline.web.files import page_files
from pipeline.web.guard import MOST_BODY_BYTES, Guard
from pipeline.web.hosts import Hosts
from pipeline.web.login import Login
from tests.background import until
from tests.boards import TOKEN, FakeBoard, answers_again, board, client, ends, open_web, serving, web

__all__ = ["board", "open_web", "web"]


def test_large_requests(open_web: httpx.Client) -> None:
    assert open_web.post("/login", content=b"x" * (MOST_BODY_BYTES + 1)).status_code == 413
    assert open_web.post("/login", content=iter([b"x" * 3000] * 2)).status_code == 413
    assert open_web.get("/live", headers={"x-long": "x" * 20_000}).status_code == 431
    assert open_web.get("/live?" + "x" * 20_000).status_code == 431
    assert open_web.get("/live").status_code == 200


FAST = Limits(connections=4, request_s=0.2, stall_s=0.3, check_s=0.05)


def reached(server: WebServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").strip("/").split(":")
    connected = socket.create_connection((host, int(port)), timeout=10)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return connected


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30\r\n\r\ntoken=",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /live HT",
    ],
)
def test_clients_that_do_not_finish_their_request(board: FakeBoard, begun: bytes) -> None:
    with serving(board, FAST) as server, reached(server) as slow:
        slow.sendall(begun)
        assert ends(slow)


def test_a_client_that_trickles(board: FakeBoard) -> None:
    with serving(board, FAST) as server, reached(server) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        slow.settimeout(0.02)
        for _ in range(500):
            try:
                slow.sendall(b"X: y\r\n")
                if not slow.recv(100):
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
        raise AssertionError("it was never hung up")


def test_who_reads_nothing_is_hung_up_on(board: FakeBoard) -> None:
    """Its machine takes no more, and the server keeps what it asked for: for a while, and not for ever."""
    limits = Limits(connections=1, request_s=60, stall_s=0.3, check_s=0.05)
    with serving(board, limits) as server, reached(server) as stuck:
        stuck.settimeout(0.5)
        with suppress(TimeoutError, ConnectionError):
            while True:
                stuck.sendall(b"GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)

        def served() -> bool:
            with client(server) as http:
                try:
                    return http.get("/live").status_code == 200
                except httpx.TransportError:
                    return False

        until(served, "a place for somebody else")  # who does not read may never hear that it was hung up on


def test_connections_are_bounded(board: FakeBoard) -> None:
    with serving(board, Limits(connections=4)) as server:
        held = [reached(server) for _ in range(4)]
        for each in held:
            each.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert each.recv(20).startswith(b"HTTP/1.1 200")
        with reached(server) as further:
            assert ends(further)
        for each in held:
            each.close()
        with client(server) as http:
            answers_again(http)


def test_garbage_is_answered_and_survived(open_web: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    host, port = open_web.base_url.host, open_web.base_url.port
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\r\n" * 50 + b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n"):
        with socket.create_connection((host, port), timeout=10) as connected:
            connected.sendall(garbage + b"\r\n\r\n")
            connected.shutdown(socket.SHUT_WR)
            assert ends(connected)
    assert open_web.get("/live").status_code == 200
    assert caplog.text == "", "a client's mistakes fill no log"


def test_senseless_forms_fill_no_log(web: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    for fields in ("&".join(["token=x"] * 5), "a=1&b=2&c=3&d=4&token=x"):
        assert web.post("/login", content=fields).status_code == 400
    assert web.post("/login", content=b"\xff\xfe;=&=").status_code == 401
    assert caplog.text == ""


def test_hanging_up_in_the_middle_of_a_form_fills_no_log(board: FakeBoard, caplog: pytest.LogCaptureFixture) -> None:
    reached: list[str] = []

    async def hang_up() -> None:
        messages = iter([{"type": "http.request", "body": b"token=", "more_body": True}, {"type": "http.disconnect"}])
        sent: list[Message] = []

        async def receive() -> Message:
            return next(messages)

        async def send(message: Message) -> None:
            sent.append(message)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            reached.append("the form")
            login = Login(Access(Secret(TOKEN)), page_files()["login.html"], secure=False)
            await login.enter(Request(scope, receive, send))
            reached.append("its end")

        scope = {"type": "http", "method": "POST", "path": "/login", "raw_path": b"/login", "query_string": b""}
        guard = Guard(app, hosts=Hosts(loopback_only=True), access=Access(Secret(TOKEN)))
        await guard(scope | {"headers": [(b"host", b"localhost")]}, receive, send)
        assert sent == []

    asyncio.run(hang_up())
    assert reached == ["the form"]
    assert caplog.text == ""
