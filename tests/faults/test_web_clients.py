# SPDX-License-Identifier: Apache-2.0
"""Many clients, slow clients and clients that send anything at all: none of them costs more than its own connection."""

from __future__ import annotations

import asyncio
import socket
import threading
from urllib.parse import quote

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ledger import StreamLedger
from pipeline.web.access import Access
from pipeline.web.api import Api
from pipeline.web.app import application
from pipeline.web.history import History
from pipeline.web.hosts import Hosts
from pipeline.web.limits import Limits
from pipeline.web.live import LiveView
from tests.boards import FakeBoard, client, serving

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def outcome(connected: socket.socket) -> bytes:
    """The first bytes of the answer; empty where the server hung up."""
    try:
        return connected.recv(12)
    except ConnectionError:
        return b""


def test_a_thousand_clients_of_metrics() -> None:
    """At most 32 are served at once here; the others are reset, and none of them makes the metrics anew."""
    board, limits = FakeBoard(), Limits(connections=32)
    before = threading.active_count()
    with serving(board, limits) as server:
        host, port = server.url.removeprefix("http://").strip("/").split(":")
        answers: list[bytes] = []
        for _ in range(10):
            clients = []
            for _ in range(100):
                connected = socket.create_connection((host, int(port)), timeout=10)
                try:
                    connected.sendall(REQUEST)
                except ConnectionError:
                    answers.append(b"")
                    connected.close()
                else:
                    clients.append(connected)
            for connected in clients:
                answers.append(outcome(connected))
                connected.close()
        assert len(answers) == 1000
        assert set(answers) <= {b"HTTP/1.1 200", b""}
        assert answers.count(b"HTTP/1.1 200") >= 100
        with client(server) as http:
            assert http.get("/live").status_code == 200
        assert threading.active_count() <= before + 2, "a thread for the loop, one for answers"


def test_slow_clients_beside_one_that_is_not() -> None:
    with serving(FakeBoard(), Limits(connections=64, request_s=30.0)) as server:
        host, port = server.url.removeprefix("http://").strip("/").split(":")
        slow = [socket.create_connection((host, int(port)), timeout=10) for _ in range(50)]
        for number, each in enumerate(slow):
            each.sendall(REQUEST[: number % 40])
        with client(server) as http:
            for _ in range(20):
                assert http.get("/api/streams").status_code == 200
        for each in slow:
            each.close()


def plain_application() -> FakeBoard:
    board = FakeBoard()
    assert board.books is not None
    board.books.streams["gate"] = StreamLedger("gate", live=True)  # connecting: no picture is waited for
    board.books.streams["gate"].state = "paused"
    return board


BOARD = plain_application()
APP = application(
    Api(
        BOARD,
        History(),
        LiveView(lambda result, picture, most: b""),
        metrics=lambda: b"",
        metrics_type="text/plain",
        report=dict,
    ),
    Access(None),
    Hosts(loopback_only=True),
    secure=False,
)
words = st.sampled_from(
    ["api", "streams", "gate", "gone", "frame.jpg", "video.mjpg", "pause", "resume", "report", "metrics", "login"]
    + ["logout", "live", "ready", "..", ".", "", "%2e%2e", "%00", "%2F", "etc", "passwd", "index.html", "static"]
) | st.text(max_size=8)  # fmt: skip
headers = st.dictionaries(
    st.sampled_from(["origin", "accept", "cookie", "authorization", "content-length", "sec-fetch-site", "range"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"]),
    parts=st.lists(words, max_size=6),
    query=st.text(max_size=10),
    sent=headers,
    body=st.binary(max_size=64),
)
def test_whatever_is_asked_for(method: str, parts: list[str], query: str, sent: dict[str, str], body: bytes) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(APP, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            path = quote("/" + "/".join(parts).lstrip("/"), safe="/%")
            request = http.build_request(method, path, params={"q": query}, headers=sent, content=body)
            return await http.send(request)

    answer = asyncio.run(ask())
    assert answer.status_code in {200, 202, 303, 304, 400, 401, 403, 404, 405, 409, 413, 503}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "root:" not in answer.text
