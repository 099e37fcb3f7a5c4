# SPDX-License-Identifier: Apache-2.0
"""A board with two streams to serve, and a server around it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from pipeline.config.outputs import ServerConfig
from pipeline.errors import ConfigError
from pipeline.events import Condition
from pipeline.frame import Detections, Picture, Result, StreamInfo
from pipeline.ledger import Ledger, SinkLedger, StreamLedger
from pipeline.timing import AGE, Mark, new_trace, now_ns
from pipeline.web import Limits, WebServer

TOKEN = "correct horse battery staple"
CAMERA_PASSWORD = "hunter2-Secret"
SINK_PATH = "/srv/" + "a-folder-with-a-long-name-" * 5 + "/{stream}.jsonl"


class FakeBoard:
    """``gate`` is live, ``gone`` is not; what is asked of it is kept."""

    def __init__(self) -> None:
        self.books: Ledger | None = Ledger()
        self.turns = self.warm = True
        self.reload_succeeded = True
        self.reloads = {"done": 2, "refused": 1}
        self.held: list[tuple[str, bool]] = []
        self.books.begin(now_ns())
        for name in ("gate", "gone"):
            self.books.add(StreamLedger(name, live=True))
        gate = self.books.streams["gate"]
        gate.opened(StreamInfo("gate", 640, 360, live=True, codec="h264"), gate.counters, now_ns())
        gone = self.books.streams["gone"]
        text = f"rtsp://viewer:{CAMERA_PASSWORD}@10.0.0.9/x: connection refused"
        gone.at(Condition("backoff", text, "refused", attempts=3, pause_s=20.0))
        self.books.sinks["jsonl"] = SinkLedger("jsonl", received=1, written=1, path=SINK_PATH)
        for _ in range(3):
            self.frame()

    def frame(self) -> None:
        assert self.books is not None
        trace = new_trace()
        trace[Mark.READ], trace[Mark.DECODED] = now_ns() - 9_000_000, now_ns() - 5_000_000
        trace[Mark.FOLLOWED] = trace[Mark.DONE] = now_ns()
        trace[AGE] = 40_000_000
        gate = self.books.streams["gate"]
        gate.arrived(trace[Mark.READ], 0.0, 0, corrupt=False)
        gate.published(trace)
        gate.finished(trace)

    @property
    def ledger(self) -> Ledger | None:
        return self.books

    def alive(self) -> bool:
        return self.turns

    def prepared(self) -> bool:
        return self.warm

    def facts(self) -> dict[str, Any]:
        return {"command": "run", "model": {"path": "builtin:people", "verdict": {"batches": "whole"}}, "startup_s": {}}

    def waiting(self) -> dict[str, int]:
        return {"gate": 2}

    def pause(self, name: str, paused: bool) -> bool:
        self.held.append((name, paused))
        return name == "gate"


def picture_result(stream: str, number: int = 0, size: tuple[int, int] = (64, 48)) -> Result:
    """A grey picture with one box; its grey is its number."""
    width, height = size
    found = Detections(np.array([[8, 8, 40, 40]], np.float32), np.array([0.9], np.float32), np.array([0], np.int64))
    picture = Picture((np.full((height, width), number % 256, np.uint8),), "gray")
    return Result(stream, number, number / 10, None, width, height, found, {0: "person"}, picture=picture)


@contextmanager
def serving(
    board: FakeBoard,
    limits: Limits | None = None,
    metrics_in: Mapping[str, Callable[[], bytes]] | None = None,
    **options: Any,
) -> Iterator[WebServer]:
    """A server on a free port of this machine."""
    config = ServerConfig(**{"listen": "127.0.0.1:0", **options})
    server = WebServer(
        config,
        board,
        metrics=lambda: b"# HELP pipeline_x x\n",
        metrics_type="text/plain; version=0.0.4; charset=utf-8",
        report=lambda: {"command": "run"} if board.books is not None else None,
        trace=lambda: b'{"traceEvents":[]}' if board.books is not None else None,
        metrics_in=metrics_in or {},
        limits=limits,
    )
    try:
        server.start()
        yield server
    finally:
        server.close()


class Feeder:
    """Shows results whenever somebody wants them, as a running flow does."""

    def __init__(self, server: WebServer, every_s: float = 0.01) -> None:
        self._server = server
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed)
        self.shown = 0

    def _feed(self) -> None:
        while not self._stop.wait(self._every_s):
            if self._server.tap.wants("gate"):
                self._server.tap.show(picture_result("gate", self.shown, (640, 480)))
                self.shown += 1

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def client(server: WebServer, **options: Any) -> httpx.Client:
    """Talks to the server, and to nobody else."""
    return httpx.Client(base_url=server.url, trust_env=False, timeout=10, **options)


def token_file(folder: Path, token: str = TOKEN) -> str:
    """A file as ``token_file`` names it."""
    path = folder / "token"
    path.write_text(token + "\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def board() -> FakeBoard:
    return FakeBoard()


@pytest.fixture
def open_web(board: FakeBoard) -> Iterator[httpx.Client]:
    with serving(board) as server, client(server) as http:
        yield http


@pytest.fixture
def web(board: FakeBoard, tmp_path: Path) -> Iterator[httpx.Client]:
    """With a token."""
    with serving(board, token_file=token_file(tmp_path)) as server, client(server) as http:
        yield http


def refused(board: FakeBoard, match: str, **options: Any) -> None:
    with pytest.raises(ConfigError, match=match), serving(board, **options):
        pass


def ends(connected: socket.socket) -> bool:
    """Whether the server hangs up within the timeout of this connection."""
    try:
        while connected.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def answers_again(http: httpx.Client) -> None:
    """Whoever held the server full has gone; its loop may not have seen it yet."""
    for _ in range(200):
        try:
            assert http.get("/live").status_code == 200
        except httpx.TransportError:
            continue
        return
    raise AssertionError("still full")
