# SPDX-License-Identifier: Apache-2.0
"""``pipeline run`` with a ``server`` section: a daemon that can be looked at, but not by everybody."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.commands import cli
from tests.daemons import JSONL, config, records
from tests.models import Cells, save
from tests.processes import Running, daemon

__all__ = ["cli", "daemon"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Cells(), tmp_path_factory.mktemp("model") / "cells.pt")


def served(folder: Path, model: Path, streams: list[str], server: str) -> Path:
    path = config(folder, model, streams, [JSONL])
    path.write_text(path.read_text() + f"server: {{{server}}}\n")
    return path


def awaited(http: httpx.Client, stream: str, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The stream as the API tells it, once ``good`` is true of it."""
    told: dict[str, Any] = {}
    until, pause = time.monotonic() + 60, threading.Event()
    while time.monotonic() < until:
        told = http.get(f"/api/streams/{stream}").json()
        if "error" not in told and good(told):
            return told
        http.get(f"/api/streams/{stream}/frame.jpg")
        pause.wait(0.1)  # figures are made anew once a second at most
    raise AssertionError(told)


def test_a_daemon_that_is_looked_at(daemon: Callable[..., Running], model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    path = served(
        tmp_path,
        model,
        [
            "name: bars, source: 'pattern:?size=128x96&fps=20'",
            f"name: gone, source: 'rtsp://viewer:hunter2-Secret@127.0.0.1:{port}/x'",
        ],
        "listen: '127.0.0.1:0'",
    )
    run = daemon(path)
    with run.web as http:
        assert http.get("/live").status_code == 200, "while the model is being loaded, too"
        run.until("detector ready")
        bars = awaited(http, "bars", lambda told: told["state"] == "live" and told["frames"]["processed"] > 5)
        assert (bars["width"], bars["height"]) == (128, 96)
        assert http.get("/ready").status_code == 200

        answer = http.get("/api/streams/bars/frame.jpg")
        assert cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR).shape == (96, 128, 3)

        gone = awaited(http, "gone", lambda told: told["cause"] is not None)
        assert gone["state"] in ("connecting", "backoff")
        assert gone["cause"] == "refused"
        assert "connection refused" in gone["detail"]
        assert gone["attempts"] >= 1
        assert "hunter2" not in str(gone)

        metrics = http.get("/metrics").text
        names = {sample.name for family in text_string_to_metric_families(metrics) for sample in family.samples}
        assert {"pipeline_frames_total", "pipeline_stage_seconds_bucket", "pipeline_stream_up"} <= names
        assert http.get("/api/report").json()["streams"]["bars"]["state"] == "live"
        assert http.get("/api/report").json()["wall_s"] > 0

        assert http.post("/api/streams/bars/pause").status_code == 202
        awaited(http, "bars", lambda told: told["state"] == "paused")
        assert http.post("/api/streams/gone/pause").status_code == 202
        awaited(http, "gone", lambda told: told["state"] == "paused")
        assert http.get("/ready").status_code == 200, "all are held on purpose"
        assert http.get("/api/streams/bars/frame.jpg").status_code == 503
        assert http.post("/api/streams/bars/resume").status_code == 202
        awaited(http, "bars", lambda told: told["state"] == "live")

        with http.stream("GET", "/api/streams/bars/video.mjpg") as video:
            assert next(video.iter_bytes()).startswith(b"--frame")
            code, log = run.end()
    assert code == 0, log
    assert "hunter2" not in log
    assert "unaccounted" not in log
    lines = records(tmp_path / "out" / "bars.jsonl")
    assert [line["frame"] for line in lines] == sorted({line["frame"] for line in lines})
    told = records(tmp_path / "out" / "bars.events.jsonl")
    assert [line["event"] for line in told] == ["up", "paused", "up", "ended"]
    assert {line["run"] for line in told} == {lines[0]["run"]}
    told = records(tmp_path / "out" / "gone.events.jsonl")
    assert [(line["event"], line["cause"]) for line in told] == [("down", "refused"), ("paused", None), ("ended", None)]
    assert not (tmp_path / "out" / "gone.jsonl").exists(), "it was never reached"


@pytest.mark.parametrize(
    ("server", "expected", "told"),
    [
        ("listen: '127.0.0.1:PORT'", 1, r"server\.listen: cannot listen on 127\.0\.0\.1:\d+: address already in use"),
        ("listen: '0.0.0.0:0'", 2, r"server\.listen: an address that others can reach needs token_file"),
        ("listen: '0.0.0.0:0', token_file: token", 2, r"server\.listen: .* needs tls"),
        ("token_file: nowhere", 2, r"server\.token_file: the file named here cannot be read"),
    ],
)
def test_a_server_that_cannot_be(cli: Any, model: Path, tmp_path: Path, server: str, expected: int, told: str) -> None:
    """What may be cured by waiting ends with 1, which supervisors restart; what is refused ends with 2."""
    (tmp_path / "token").write_text("a token of some length\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = server.replace("PORT", str(taken.getsockname()[1]))
        done = cli("run", served(tmp_path, model, ["name: bars, source: 'pattern:?size=128x96&fps=20'"], server))
    assert done.code == expected, done.err
    assert re.search(told, done.err), done.err
    assert len(done.err.splitlines()) == 1, done.err


@pytest.mark.parametrize(
    ("server", "code", "told"),
    [
        ("token_file: nowhere", 2, "server.token_file: the file named here cannot be read"),
        ("listen: '0.0.0.0:0', token_file: token", 0, "server.listen: .* needs tls, .* --insecure"),
        ("tls: {cert_file: nowhere, key_file: token}", 2, "server.tls.cert_file: .* cannot be read"),
    ],
)
def test_check_says_it_before(cli: Any, model: Path, tmp_path: Path, server: str, code: int, told: str) -> None:
    (tmp_path / "token").write_text("a token of some length\n")
    path = served(tmp_path, model, ["name: bars, source: 'pattern:?size=128x96&fps=20'"], server)
    done = cli("check", path, "--offline")
    assert done.code == code, done.err
    assert re.search(told, done.out + done.err), done


def test_insecure_is_a_word_that_must_be_said(daemon: Callable[..., Running], model: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token of some length\n")
    (tmp_path / "token").chmod(0o600)
    path = served(
        tmp_path, model, ["name: bars, source: 'pattern:?size=128x96&fps=20'"], "listen: '0.0.0.0:0', token_file: token"
    )
    run = daemon(path, "--insecure")
    url = run.address.replace("0.0.0.0", "127.0.0.1")
    with httpx.Client(base_url=url, trust_env=False, timeout=20) as http:
        assert http.get("/api/streams").status_code == 401
        assert http.get("/api/streams", headers={"authorization": "Bearer a token of some length"}).status_code == 200
    run.until("detector ready")
    assert run.end()[0] == 0
