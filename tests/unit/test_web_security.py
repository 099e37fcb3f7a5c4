# SPDX-License-Identifier: Apache-2.0
"""What SECURITY.md promises of the server: who may bind, who may come in, what comes with every answer."""

from __future__ import annotations

import errno
import hmac
import logging
import os
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.config.outputs import ServerConfig
from pipeline.errors import ConfigError, ServerError
from pipeline.redact import Secret
from pipeline.testing import ManualClock
from pipeline.web import WebServer
from pipeline.web.access import COOKIE, MOST_SESSIONS, SESSION_S, Access
from pipeline.web.door import Door
from pipeline.web.hosts import Hosts, foreign_page, split_host
from tests.boards import CAMERA_PASSWORD, TOKEN, FakeBoard, board, open_web, refused, serving, token_file, web

__all__ = ["board", "open_web", "web"]

PRIVATE = ["/", "/metrics", "/api/streams", "/api/streams/gate", "/api/report", "/api/trace"]
PRIVATE += ["/api/streams/gate/frame.jpg", "/api/streams/gate/video.mjpg"]
BEARER = {"authorization": f"Bearer {TOKEN}"}


# Where it listens


def test_only_this_machine_by_default() -> None:
    assert (ServerConfig().host, ServerConfig().is_loopback) == ("127.0.0.1", True)


def test_other_addresses_need_a_token_and_tls(board: FakeBoard, tmp_path: Path) -> None:
    unchecked = ServerConfig.model_construct(listen="0.0.0.0:0", token_file=None, tls=None, hosts=())
    with pytest.raises(ConfigError, match="needs token_file"):
        WebServer(unchecked, board, metrics=bytes, metrics_type="", report=dict)
    refused(board, "needs tls, .* --insecure", listen="0.0.0.0:0", token_file=token_file(tmp_path))


def test_insecure_serves_all_the_same(board: FakeBoard, tmp_path: Path) -> None:
    config = ServerConfig(listen="0.0.0.0:0", token_file=token_file(tmp_path))
    server = WebServer(config, board, metrics=bytes, metrics_type="", report=dict, insecure=True)
    server.close()
    unchecked = ServerConfig.model_construct(listen="0.0.0.0:0", token_file=None, tls=None, hosts=())
    with pytest.raises(ConfigError, match="needs token_file"):
        WebServer(unchecked, board, metrics=bytes, metrics_type="", report=dict, insecure=True)


def test_an_address_in_use(board: FakeBoard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServerError, match=f"cannot listen on {listen}: address already in use"):
            WebServer(ServerConfig(listen=listen), board, metrics=bytes, metrics_type="", report=dict)


def test_an_address_that_is_not_there_yet(board: FakeBoard, tmp_path: Path) -> None:
    config = ServerConfig(listen="192.0.2.1:0", token_file=token_file(tmp_path))
    with pytest.raises(ServerError, match=r"cannot listen on 192\.0\.2\.1:0: cannot assign requested address"):
        WebServer(config, board, metrics=bytes, metrics_type="", report=dict, insecure=True)


def test_a_port_without_the_right_to_it(board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Door, "bind", bind)
    refused(board, "cannot listen on 127.0.0.1:80: permission denied", listen="127.0.0.1:80")


@pytest.mark.parametrize("name", ["no-such-file", "empty", "two-lines"])
def test_token_files_that_hold_none(board: FakeBoard, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "two-lines").write_text(f"{TOKEN}\nmore\n")
    refused(board, r"server\.token_file: ", token_file=str(tmp_path / name))


def test_short_and_readable_tokens_are_worth_a_warning(
    board: FakeBoard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = token_file(tmp_path, "1234")
    os.chmod(path, 0o644)
    with caplog.at_level(logging.WARNING), serving(board, token_file=path):
        pass
    assert "can be guessed" in caplog.text
    assert "every user of this machine" in caplog.text
    assert "1234" not in caplog.text


# Who may come in


def test_without_the_token_nothing_is_told(web: httpx.Client, board: FakeBoard) -> None:
    for path in PRIVATE:
        answer = web.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        assert "gate" not in answer.text
    for path in ("/api/streams/gate/pause", "/api/streams/gate/resume", "/logout", "/api/nothing"):
        assert web.post(path).status_code == 401
    assert board.held == []
    assert web.get("/live").status_code == 200
    assert web.get("/ready").text == "ready\n"


def test_with_the_token_in_a_header(web: httpx.Client, board: FakeBoard) -> None:
    for path in ["/", "/metrics", "/api/streams", "/api/streams/gate", "/api/report", "/api/trace"]:
        assert web.get(path, headers=BEARER).status_code == 200, path
    assert web.post("/api/streams/gate/pause", headers=BEARER).status_code == 202
    assert board.held == [("gate", True)]


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer x", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer \xe9\xff"],
)
def test_what_is_not_the_token(web: httpx.Client, value: str) -> None:
    assert web.get("/api/streams", headers={"authorization": value.encode("latin-1")}).status_code == 401


@pytest.mark.parametrize("query", [f"token={TOKEN}", f"access_token={TOKEN}", f"authorization=Bearer+{TOKEN}"])
def test_a_token_in_the_url_counts_for_nothing(web: httpx.Client, query: str) -> None:
    assert web.get(f"/api/streams?{query}").status_code == 401
    assert web.get("/login", params=query).status_code == 200
    assert COOKIE not in web.cookies


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, expected: bytes) -> bool:
        compared.append((given, expected))
        return given == expected

    monkeypatch.setattr(hmac, "compare_digest", compare)
    access = Access(Secret(TOKEN))
    assert access.allows(f"Bearer {TOKEN}", {})
    assert not access.allows("Bearer x", {})
    assert not access.is_token("")
    assert [given for given, _ in compared] == [TOKEN.encode(), b"x", b""]


def test_sessions_end_and_are_bounded() -> None:
    clock = ManualClock()
    access = Access(Secret(TOKEN), clock)
    cookies = [access.begin_session() for _ in range(MOST_SESSIONS + 1)]
    assert len(set(cookies)) == len(cookies)
    assert not access.allows(None, {COOKIE: cookies[0]}), "the oldest made room"
    assert access.allows(None, {COOKIE: cookies[1]})
    access.end_session(cookies[1])
    assert not access.allows(None, {COOKIE: cookies[1]})
    assert not access.allows(None, {COOKIE: TOKEN})
    assert not access.allows(None, {})
    clock.advance(SESSION_S * 1_000_000_000)
    assert not access.allows(None, {COOKIE: cookies[2]})


def test_logging_in_and_out(web: httpx.Client) -> None:
    html = {"accept": "text/html"}
    assert web.get("/", headers=html).headers["location"] == "/login"
    assert '<form method="post" action="/login"' in web.get("/login").text
    wrong = web.post("/login", data={"token": "<script>x</script>"})
    assert wrong.status_code == 401
    assert "not the token" in wrong.text
    assert "script>x" not in wrong.text
    assert "set-cookie" not in wrong.headers
    right = web.post("/login", data={"token": TOKEN})
    assert (right.status_code, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie, "this is HTTP"
    assert TOKEN not in cookie
    assert web.get("/api/streams").status_code == 200
    assert web.post("/logout").headers["location"] == "/login"
    assert web.get("/api/streams").status_code == 401


def test_no_login_without_a_token(open_web: httpx.Client) -> None:
    assert open_web.get("/login").headers["location"] == "/"
    assert open_web.post("/login", data={"token": ""}).status_code == 401


# From where


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "10.0.0.5", "a b"]
)
def test_requests_for_another_name_are_refused(open_web: httpx.Client, board: FakeBoard, host: str) -> None:
    assert open_web.get("/api/streams", headers={"host": host}).status_code == 400
    assert open_web.get("/", headers={"host": host}).status_code == 400
    assert open_web.post("/api/streams/gate/pause", headers={"host": host}).status_code == 400
    assert board.held == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9999", "127.0.0.1", "[::1]:80", "127.0.0.9:1"])
def test_names_of_this_machine(open_web: httpx.Client, host: str) -> None:
    assert open_web.get("/api/streams", headers={"host": host}).status_code == 200


def test_hosts() -> None:
    assert split_host("[::1]:8080") == "::1"
    assert split_host("a:b") is None
    reachable = Hosts(loopback_only=False, names=["Cameras.example.org"])
    assert reachable.served("cameras.example.org:8443")
    assert reachable.served("192.168.1.7:8080")
    assert not reachable.served("rebound.example")
    assert not reachable.served(None)
    assert not Hosts(loopback_only=True).served("192.168.1.7:8080")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_pages_of_other_sites_can_neither_send_nor_embed(
    open_web: httpx.Client, board: FakeBoard, headers: dict[str, str]
) -> None:
    assert open_web.post("/api/streams/gate/pause", headers=headers).status_code == 403
    assert open_web.get("/api/streams/gate/frame.jpg", headers=headers).status_code == 403
    assert open_web.post("/login", data={"token": TOKEN}, headers=headers).status_code == 403
    assert board.held == []


def test_the_own_page_may(open_web: httpx.Client) -> None:
    own = {"origin": str(open_web.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    assert open_web.post("/api/streams/gate/pause", headers=own).status_code == 202
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert open_web.get("/", headers=link).status_code == 200
    assert open_web.post("/api/streams/gate/pause", headers=link).status_code == 403
    form = {"origin": "null", "sec-fetch-site": "same-origin"}  # what browsers send under no-referrer
    assert open_web.post("/api/streams/gate/pause", headers=form).status_code == 202
    assert foreign_page("localhost:80", "http://localhost:81", None)
    assert not foreign_page("cams.example", "https://CAMS.example", "same-origin")


# What comes with every answer


@pytest.mark.parametrize("path", ["/", "/live", "/login", "/api/streams", "/api/nobody", "/app.js", "/metrics"])
def test_headers_on_every_answer(web: httpx.Client, path: str) -> None:
    for headers in ({}, BEARER, {"host": "evil.example"}):
        answer = web.get(path, headers=headers)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


def test_what_goes_wrong_inside_is_not_told(
    open_web: httpx.Client, board: FakeBoard, caplog: pytest.LogCaptureFixture
) -> None:
    def facts() -> dict[str, Any]:
        raise RuntimeError(f"rtsp://u:{CAMERA_PASSWORD}@x broke")

    board.facts = facts  # type: ignore[method-assign]
    answer = open_web.get("/api/streams")
    assert (answer.status_code, answer.json()["error"]["kind"]) == (500, "InternalError")
    assert CAMERA_PASSWORD not in answer.text
    assert "http: RuntimeError" in caplog.text
