# SPDX-License-Identifier: Apache-2.0
"""Anything at all on a connection to the real server: it is answered as HTTP asks, never with a fault of the server,
and the next client is served. (Well-formed requests of every kind: tests/faults/test_web_clients.py.)"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.web import Limits, WebServer
from tests.boards import FakeBoard, client, serving

TIMES = int(os.environ.get("FUZZ", "1"))
PIECES = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT ",
    b"/",
    b"/api/streams",
    b"/api/streams/gate/pause",
    b"/metrics",
    b"/login",
    b"/..%2f..%2fetc/passwd",
    b"http://example.org/",
    b"?q=%ff",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b" HTTP/9.9\r\n",
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"Host: localhost\r\n",
    b"Host: example.org\r\n",
    b"Host: a\r\nHost: b\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Expect: 100-continue\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    b"Authorization: Bearer \xff\r\n",
    b"Cookie: session=a; session=b; ;=\r\n",
    b"Range: bytes=0-,-1\r\n",
    b"Accept-Encoding: gzip\r\n",
    b"Origin: null\r\n",
    b"X: " + b"a" * 5000 + b"\r\n",
    b"\0",
    b"\xff\xfe",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"token=a",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n",
    b"POST /api/streams/gate/resume HTTP/1.1\r\nHost: localhost\r\n",
]
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
FINE = {*b"100 200 202 303 400 401 403 404 405 409 411 413 414 421 431".split()}
NOT_NOW = b"503"
"""What a stream without a picture is answered with, and a server that has too many clients."""


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with serving(FakeBoard(), Limits(connections=64, request_s=2.0)) as running:
        yield running


def answer(server: WebServer, data: bytes) -> bytes:
    """What comes back before the connection ends, or before nothing more is sent for a moment."""
    host, port = server.url.removeprefix("http://").strip("/").split(":")
    got = b""
    with socket.create_connection((host, int(port)), timeout=10) as connected, suppress(ConnectionError, TimeoutError):
        connected.sendall(data)
        connected.shutdown(socket.SHUT_WR)
        while more := connected.recv(65536):
            got += more
            if len(got) > 1 << 20:
                break
    return got


@settings(
    max_examples=60 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=12).map(b"".join))
def test_anything_on_a_connection(server: WebServer, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    got = answer(server, data)
    assert set(STATUS.findall(got)) <= FINE | {NOT_NOW}, (data, got[:500])
    assert b"Traceback" not in got
    assert b"root:" not in got
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_and_the_next_client_is_served(server: WebServer) -> None:
    with client(server) as http:
        assert http.get("/live").status_code == 200
