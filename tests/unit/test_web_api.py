# SPDX-License-Identifier: Apache-2.0
"""The routes of the API and what they answer, over a real socket."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest
from starlette.requests import Request

from pipeline.ledger import StreamLedger
from pipeline.timing import now_ns
from pipeline.web.api import Api
from pipeline.web.drawn import drawn
from pipeline.web.history import POINTS, History
from pipeline.web.live import LiveView
from tests.boards import CAMERA_PASSWORD, SINK_PATH, FakeBoard, board, client, open_web, serving
from tests.journeys import World

__all__ = ["board", "open_web"]


def test_live_and_ready_say_nothing_else(open_web: httpx.Client, board: FakeBoard) -> None:
    assert (open_web.get("/live").status_code, open_web.get("/live").text) == (200, "live\n")
    assert (open_web.get("/ready").status_code, open_web.get("/ready").text) == (200, "ready\n")
    board.turns = board.warm = False
    assert (open_web.get("/live").status_code, open_web.get("/live").text) == (503, "not live\n")
    assert (open_web.get("/ready").status_code, open_web.get("/ready").text) == (503, "not ready\n")


@pytest.mark.parametrize(
    ("states", "ready"),
    [
        (("live", "backoff"), True),
        (("backoff", "stalled"), False),
        (("finished", "paused"), True),
        (("finished", "auth_failed"), False),
        (("failed", "failed"), False),
    ],
)
def test_ready_with_these_streams(
    open_web: httpx.Client, board: FakeBoard, states: tuple[str, str], ready: bool
) -> None:
    assert board.books is not None
    for account, state in zip(board.books.streams.values(), states, strict=True):
        account.state = state  # type: ignore[assignment]
    assert open_web.get("/ready").status_code == (200 if ready else 503)


def test_ready_is_about_the_present_lives(open_web: httpx.Client, board: FakeBoard) -> None:
    assert board.books is not None
    for account, state in zip(board.books.streams.values(), ("failed", "live"), strict=True):
        account.state = state  # type: ignore[assignment]
    board.books.add(StreamLedger("gate", live=True))
    board.books.streams["gate"].state = "paused"
    assert open_web.get("/ready").status_code == 200
    board.books.streams["gone"].state = "paused"
    assert open_web.get("/ready").status_code == 200, "gate~1 failed, but nobody waits for it"
    board.books.streams["gate~1"].state = "live"
    board.books.streams["gate"].state = "backoff"
    assert open_web.get("/ready").status_code == 503, "gate~1 is nobody's picture any more"


def test_before_anything_runs(open_web: httpx.Client, board: FakeBoard) -> None:
    board.books, board.warm = None, False
    assert open_web.get("/live").status_code == 200
    assert open_web.get("/ready").status_code == 503
    assert open_web.get("/api/streams").json()["streams"] == {}
    assert open_web.get("/api/report").status_code == 503
    assert open_web.get("/api/trace").status_code == 503
    assert open_web.get("/metrics").status_code == 200
    for answer in (
        *(open_web.get(f"/api/streams/gate{route}") for route in ("", "/frame.jpg", "/video.mjpg")),
        open_web.post("/api/streams/gate/pause"),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), "a client that sees 404 gives up"
        assert answer.json()["error"] == {"kind": "NotReady", "message": "nothing runs yet: the model is being loaded"}


def test_all_streams(open_web: httpx.Client) -> None:
    told = open_web.get("/api/streams").json()
    assert list(told["streams"]) == ["gate", "gone"]
    gate, gone = told["streams"].values()
    assert (gate["state"], gate["cause"], gate["frames"]["processed"], gate["waiting"]) == ("live", None, 3, 2)
    assert 0 <= gate["age_s"] < 60
    assert gate["stages"]["decode"].keys() == {"p50_ms", "p99_ms", "jitter_ms"}
    assert gate["end_to_end"]["p99_ms"] == pytest.approx(9, rel=0.5)
    assert gate["windows"]["60s"]["end_to_end"]["count"] == 3
    assert gone["windows"]["60s"]["end_to_end"] is None
    assert (gone["state"], gone["age_s"], gone["end_to_end"]) == ("backoff", None, None)
    assert (gone["cause"], gone["detail"]) == ("refused", "rtsp://10.0.0.9/x: connection refused")
    assert (gone["attempts"], gone["next_try_s"]) == (3, pytest.approx(20, abs=10))
    assert 0 <= gone["since_s"] <= told["uptime_s"] + 0.1, "they count from one moment"
    assert (gate["stalls"], gate["param_changes"], gate["next_try_s"]) == (0, 0, None)
    assert told["model"]["verdict"] == {"batches": "whole"}
    assert (told["sinks"]["jsonl"]["written"], told["sinks"]["jsonl"]["path"]) == (1, SINK_PATH)
    assert told["config"] == {"is_current": True, "reloads": {"done": 2, "refused": 1}}


def test_one_stream(open_web: httpx.Client) -> None:
    gate = open_web.get("/api/streams/gate").json()
    assert (gate["name"], gate["width"], gate["height"], gate["codec"]) == ("gate", 640, 360, "h264")
    assert gate["stages"]["decode"]["count"] == 3
    assert gate["history"]["step_s"] == 5
    unknown = open_web.get("/api/streams/nobody")
    assert (unknown.status_code, unknown.json()["error"]["kind"]) == (404, "NotFound")
    assert open_web.get("/api/streams/..%2f..%2fetc%2fpasswd").status_code == 404


def test_late_frames_of_one_stream_newest_first(open_web: httpx.Client, board: FakeBoard) -> None:
    world = World("gate", budget_ms=80)
    world.as_usual("gate")
    world.frame("gate", infer=100)
    world.frame("gate", sink=1001)
    board.books = world.ledger
    told = open_web.get("/api/streams/gate").json()
    assert told["late"] == {"frames": 2, "limit_ms": 80.0, "by": "budget", "parts": {"infer": 1, "sink": 1}}
    assert [slow["verdict"] for slow in told["slow_frames"]] == [
        "sink +1.0 s: jsonl wrote",
        "infer +70 ms: batch 7 of size 2",
    ]
    assert all(slow["age_s"] >= 0 for slow in told["slow_frames"])


def test_metrics_and_report(open_web: httpx.Client) -> None:
    answer = open_web.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.startswith("# HELP")
    assert open_web.get("/api/report").json() == {"command": "run"}
    answer = open_web.get("/api/trace")
    assert (answer.json(), answer.headers["content-type"]) == ({"traceEvents": []}, "application/json")
    assert answer.headers["content-disposition"] == 'attachment; filename="pipeline-trace.json"'


def test_pause_and_resume(open_web: httpx.Client, board: FakeBoard) -> None:
    assert open_web.post("/api/streams/gate/pause").json() == {"stream": "gate", "paused": True}
    assert open_web.post("/api/streams/gate/resume").status_code == 202
    assert open_web.post("/api/streams/nobody/pause").status_code == 404
    assert board.held == [("gate", True), ("gate", False)]
    assert open_web.post("/api/streams/gone/pause").status_code == 409
    assert board.books is not None
    board.books.streams["gate"].state = "finished"
    assert open_web.post("/api/streams/gate/pause").status_code == 409


def test_methods_and_unknown_paths(open_web: httpx.Client, board: FakeBoard) -> None:
    assert open_web.get("/api/streams/gate/pause").status_code == 405
    assert open_web.get("/api/streams/gate/pause").headers["allow"] == "POST"
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert open_web.request(method, "/api/streams/gate").status_code == 405
    for path in ("/api", "/api/streams/", "/config", "/static/app.js", "/%2e%2e/etc/passwd", "//etc/passwd"):
        assert open_web.get(path).status_code == 404, path
    assert open_web.head("/api/streams").status_code == 200
    assert board.held == []


@pytest.mark.parametrize("path", ["/api/streams", "/api/streams/gate"])
def test_figures_of_a_moment_are_made_once_for_all(path: str) -> None:
    made_in: list[str] = []

    class Counting(FakeBoard):
        def waiting(self) -> dict[str, int]:
            made_in.append(threading.current_thread().name)
            return {}

    with serving(Counting()) as server, client(server) as http:
        begin_ns = now_ns()
        for _ in range(20):
            assert http.get(path).status_code == 200
        assert 1 <= len(made_in) <= 1 + (now_ns() - begin_ns) // 1_000_000_000
    assert {name.partition("_")[0] for name in made_in} == {"web:answer"}, "not in the loop that answers probes"


def test_figures_are_kept_for_streams_that_there_are() -> None:
    board = FakeBoard()
    books = board.books
    assert books is not None
    api = Api(board, History(), LiveView(drawn), metrics=bytes, metrics_type="", report=dict)

    async def ask(name: str) -> int:
        scope = {"type": "http", "path_params": {"name": name}}
        return (await api.stream(Request(scope))).status_code

    async def ask_all() -> None:
        assert [await ask(name) for name in ("gate", "nobody", "gone")] == [200, 404, 200]
        assert list(api._each) == ["gate", "gone"]
        del books.streams["gone"]
        books.add(StreamLedger("new"))
        assert [await ask(name) for name in ("gone", "new")] == [404, 200]
        assert list(api._each) == ["gate", "new"]

    asyncio.run(ask_all())


def test_no_credentials_anywhere(open_web: httpx.Client) -> None:
    for path in ("/", "/metrics", "/api/streams", "/api/streams/gone", "/api/report"):
        assert CAMERA_PASSWORD not in open_web.get(path).text, path
        assert "viewer" not in open_web.get(path).text, path


def test_history_is_bounded_and_forgets() -> None:
    board, history = FakeBoard(), History()
    assert board.books is not None
    for step in range(2 * POINTS):
        history.sample(board.books, step * 5_000_000_000)
        board.frame()
    assert history.fps("gate") == [0.2] * POINTS
    assert history.rate("gate") == 0.2
    assert history.fps("gone") == [0.0] * POINTS
    assert history.rate("nobody") is None
    del board.books.streams["gone"]
    history.sample(board.books, 2 * POINTS * 5_000_000_000)
    assert history.fps("gone") == []
    board.books.add(StreamLedger("gate"))  # a new life counts from 0
    history.sample(board.books, (2 * POINTS + 1) * 5_000_000_000)
    assert history.fps("gate")[-1] == 0.0
