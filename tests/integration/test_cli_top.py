# SPDX-License-Identifier: Apache-2.0
"""``pipeline top`` against the real server: what it shows, what it refuses, and keys in a real terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.cli import main
from pipeline.cli.live.client import Address
from pipeline.cli.live.table import ORDERS, spark, table
from pipeline.cli.top import SORTED_BY
from pipeline.timing import now_ns
from tests.boards import TOKEN, FakeBoard, serving, token_file
from tests.http_servers import Quiet, answering


def spoken(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["top", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_table_says_what_the_daemon_says(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(FakeBoard()) as server:
        code, out, err = spoken(capsys, server.url)
    assert (code, err) == (0, "")
    head, columns, *rows = (line.split() for line in out.splitlines())
    assert "1 of 2 streams live" in " ".join(head)
    assert "builtin:people" in head
    assert columns[:5] == ["stream", "state", "fps", "age", "p50"]
    assert [row[:2] for row in rows] == [["gate", "live"], ["gone", "reconnecting"]]
    assert "refused for" in " ".join(rows[1])


def test_json_is_the_answer_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(FakeBoard()) as server:
        code, out, _ = spoken(capsys, server.url, "--json")
    assert code == 0
    assert set(json.loads(out)["streams"]) == {"gate", "gone"}


def test_a_token_is_read_from_a_file_and_needed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    right = token_file(tmp_path)
    wrong = tmp_path / "wrong"
    wrong.write_text("open sesame\n")
    with serving(FakeBoard(), token_file=right) as server:
        assert spoken(capsys, server.url, "--token-file", right)[0] == 0
        code, _, err = spoken(capsys, server.url)
        assert (code, "--token-file" in err) == (2, True)
        code, _, err = spoken(capsys, server.url, "--token-file", str(wrong))
        assert (code, "not the right one" in err, "sesame" in err) == (2, True, False)
        code, _, err = spoken(capsys, server.url, "--token-file", str(tmp_path / "none"))
        assert (code, err.startswith("pipeline: --token-file: the file named here cannot be read")) == (2, True)


def test_the_configuration_says_where_and_with_which_token(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    text = "model: {path: 'builtin:people'}\nstreams: [{name: a, source: 'pattern:'}]\n"
    with serving(FakeBoard(), token_file=token_file(tmp_path)) as server:
        port = server.url.rstrip("/").rpartition(":")[2]
        path.write_text(f"{text}server: {{listen: '127.0.0.1:{port}', token_file: {tmp_path / 'token'}}}\n")
        assert spoken(capsys, str(path))[0] == 0
    path.write_text(text)
    code, _, err = spoken(capsys, str(path))
    assert (code, "no section server" in err, "add `server: {listen: 127.0.0.1:8080}`" in err) == (2, True, True)
    path.write_text(f"{text}server: {{listen: '127.0.0.1:0'}}\n")
    code, _, err = spoken(capsys, str(path))
    assert (code, "any free port" in err) == (2, True)


def test_a_file_that_is_broken_while_its_daemon_runs_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text("streams:\n  - name: a\n   source: 'pattern:'\n")
    code, _, err = spoken(capsys, str(path))
    assert (code, err.count("\n")) == (2, 2)
    assert "not valid YAML" in err
    assert "`pipeline top http://HOST:PORT` asks it all the same" in err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = spoken(capsys, f"127.0.0.1:{free_port()}")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "nothing listens there" in err


@pytest.mark.parametrize("text", ["ftp://x", "http://", "http://u:secret@h:1", "http://h:99999", "http://h:0"])
def test_what_is_no_address(capsys: pytest.CaptureFixture[str], text: str) -> None:
    code, _, err = spoken(capsys, text)
    assert (code, err.count("\n")) == (2, 1)
    assert "secret" not in err


def test_the_token_does_not_travel_in_the_clear(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = spoken(capsys, "http://192.0.2.1:8080", "--token-file", token_file(tmp_path))
    assert (code, "without TLS" in err) == (2, True)
    assert TOKEN not in err


def test_nor_to_a_machine_that_a_configuration_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    server = f"listen: '192.0.2.1:8080', token_file: {token_file(tmp_path)}"
    text = "model: {path: 'builtin:people'}\nstreams: [{name: a, source: 'pattern:'}]\nserver: {%s}\n"
    path.write_text(text % server)
    code, _, err = spoken(capsys, str(path))
    assert (code, "without TLS" in err) == (2, True)
    assert TOKEN not in err
    path.write_text(text % f"{server}, tls: {{cert_file: cert.pem, key_file: key.pem}}")
    assert Address.of_config(path).verify, "who answers there is asked for a certificate"
    assert not Address.of_config(path, insecure=True).verify
    path.write_text(path.read_text().replace("192.0.2.1", "0.0.0.0"))
    assert not Address.of_config(path).verify, "it is asked on this machine"


@contextmanager
def other_server(status: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[str | None]]]:
    """Something that is no daemon; what tokens it was sent."""
    sent: list[str | None] = []

    class Handler(Quiet):
        def do_GET(self) -> None:
            sent.append(self.headers["Authorization"])
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with answering(Handler) as url:
        yield url, sent


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (200, b"[]"), (200, b"{}"), (404, b""), (502, b"")])
def test_another_server_is_called_one(capsys: pytest.CaptureFixture[str], status: int, body: bytes) -> None:
    with other_server(status, body) as (url, _):
        code, out, err = spoken(capsys, url)
    assert (code in (1, 2), out, err.count("\n")) == (True, "", 1)
    assert "Traceback" not in err


def test_a_redirect_is_not_followed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Else whoever answers there would be sent the token."""
    with other_server(200, b"{}") as (elsewhere, sent), other_server(302, b"", Location=elsewhere) as (url, _):
        assert spoken(capsys, url, "--token-file", token_file(tmp_path))[0] == 2
        assert sent == []


# The table


def stream(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "state": "live", "cause": None, "detail": None, "since_s": 50.0, "next_try_s": None,
        "rate_fps": 5.0, "age_s": 0.1, "waiting": 0, "frames": {"dropped": {}},
        "end_to_end": {"p50_ms": 70.0, "p99_ms": 5000.0, "jitter_ms": 1.0}, "windows": lately(20.0),
        "history": {"step_s": 5, "fps": [5.0] * 4}, **changes,
    }  # fmt: skip


def lately(p99_ms: float | None) -> dict[str, Any]:
    return {"60s": {"end_to_end": None if p99_ms is None else {"count": 9, "p50_ms": 10.0, "p99_ms": p99_ms}}}


DETAIL = "rtsp://10.0.0.9/stream: cannot open: connection refused"
STREAMS = {
    "slow": stream("slow", windows=lately(900.0), rate_fps=9.0),
    "lossy": stream("lossy", frames={"dropped": {"overflow": 70, "stale": 2}}, age_s=0.5),
    "down": stream(
        "down", state="backoff", cause="refused", detail=DETAIL, since_s=7380.0, next_try_s=12.0, rate_fps=0.0,
        age_s=None, windows=lately(None),
    ),
}  # fmt: skip
ANSWER: dict[str, Any] = {"uptime_s": 61.0, "batches": {"2": 2, "4": 2}, "streams": STREAMS, "sinks": {}, "model": {}}


def shown(answer: dict[str, Any] = ANSWER, by: str = "name", width: int = 140, **options: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table(answer, ORDERS[SORTED_BY.index(by)], width=width, **options))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


FIRST = {"name": "down", "state": "down", "rate": "down", "age": "down", "p99": "slow", "dropped": "lossy"}


@pytest.mark.parametrize(("by", "first"), FIRST.items())
def test_the_worst_comes_first(by: str, first: str) -> None:
    assert shown(by=by)[2].split()[0] == first


def test_names_are_sorted_as_people_count() -> None:
    answer = {**ANSWER, "streams": {name: stream(name) for name in ("cam10", "gate", "Cam2", "cam1")}}
    for by in ("name", "dropped"):
        assert [line.split()[0] for line in shown(answer, by)[2:6]] == ["cam1", "Cam2", "cam10", "gate"]


def test_losses_name_their_commonest_reason() -> None:
    assert "72 overflow" in "\n".join(shown())
    assert shown()[0] == "up 1 min 01 s, 2 of 3 streams live, 14.0 fps, batches of 3.0"


def test_times_are_those_of_the_last_minute_as_on_the_dashboard() -> None:
    """A slow start an hour ago is no news; a stream that is away has none at all."""
    columns, *rows = (line.split() for line in shown()[1:])
    down, lossy, _ = rows
    assert columns[4:10] == ["p50", "ms", "p99", "ms", "jitter", "ms"]
    assert lossy[5:8] == ["10.0", "20.0", "1.0"]
    assert down[3:7] == ["\N{EN DASH}"] * 4


def test_a_stream_that_is_away_says_since_when_and_why() -> None:
    line = shown(width=240)[2]
    assert line.endswith(" refused for 2 h 03 min, next try in 12.0 s (rtsp://10.0.0.9/stream)")
    refused = stream("yard", state="auth_failed", cause="auth", detail="refused", since_s=61.0, next_try_s=30.0)
    told = shown({"uptime_s": 99.0, "streams": {"yard": refused}})[2]
    assert told.endswith(" refused for 1 min 01 s, next try in 30.0 s")
    assert "auth for" not in told
    assert "  refused for" in shown(width=100)[2], "what is cut off is not the reason"
    unknown = stream("down", state="backoff", cause="io", detail="rtsp://cam/x: cannot open: unknown host cam")
    assert "  unknown host" in shown({"uptime_s": 99.0, "streams": {"down": unknown}}, width=100)[2]
    silent = stream("yard", state="backoff", cause="not_found", since_s=61.0, next_try_s=30.0)
    told = shown({"uptime_s": 99.0, "streams": {"yard": silent}})[2]
    assert told.endswith(" not found for 1 min 01 s, next try in 30.0 s")
    paused = stream("yard", state="paused", since_s=61.0)
    assert shown({"uptime_s": 99.0, "streams": {"yard": paused}})[2].endswith(" for 1 min 01 s")
    assert "for" not in shown({"uptime_s": 99.0, "streams": {"yard": stream("yard", state="finished")}})[2].split()


def test_a_daemon_that_loads_its_model_is_starting() -> None:
    assert shown({"uptime_s": 0.0, "streams": {}})[0] == "starting: the model is being loaded"


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_it_fits_the_terminal(width: int) -> None:
    lines = shown(width=width, trouble="nothing listens there " * 20, foot="q: quit")
    assert len(lines) == 7
    assert all(len(line) <= width for line in lines)
    assert lines[-1] == "q: quit"
    figures = "\n".join(lines[1:5]).replace(lines[2], lines[2].partition("refused")[0])
    assert "\N{HORIZONTAL ELLIPSIS}" not in figures, "only the cause is cut"
    assert lines[2].split()[:2] == ["down", "reconnecting"]
    assert "refused" in lines[2]


@pytest.mark.parametrize(
    ("width", "figures", "reason"), [(80, {"age", "dropped"}, "refused for 2 h 03 min"), (50, {"dropped"}, "refused ")]
)
def test_figures_give_way_to_a_cause_and_then_names_do(width: int, figures: set[str], reason: str) -> None:
    """Streams with long names; of those that are away the reason is what somebody looks for."""
    name = "entrance-north-west-10"
    away = STREAMS["down"] | {"name": name, "state": "connecting"}
    columns, *rows = shown({"uptime_s": 9.0, "streams": {name: away, "b": stream("b")}}, width=width)[1:]
    assert {"stream", "state", "cause"} | figures <= set(columns.split())
    assert reason in rows[1]
    assert rows[1].startswith("entrance")
    before = rows[0] + rows[1].partition("refused")[0].partition(" ")[2]
    assert "\N{HORIZONTAL ELLIPSIS}" not in before, "only names and causes are cut"
    # Without a cause there is room for everything again.
    assert "p50 ms" in shown({"uptime_s": 9.0, "streams": {name: stream(name)}}, width=80)[1]


def test_more_streams_than_lines() -> None:
    many = ANSWER | {"streams": {f"c{i:02}": stream(f"c{i:02}") for i in range(50)}}
    lines = shown(many, rows=20)
    assert len(lines) <= 20
    assert "and 36 more" in lines


def test_a_sink_is_named_when_it_is_not_well() -> None:
    sinks = {
        "jsonl": {"state": "ok", "lost": {}},
        "video": {"state": "degraded", "lost": {"write_error": 3}, "error": "disk full", "path": "/srv/{stream}.mp4"},
    }
    text = "\n".join(shown(ANSWER | {"sinks": sinks}))
    assert "sink video (/srv/{stream}.mp4) is degraded, 3 results lost: disk full" in text
    sinks["video"]["state"] = "ok"
    text = "\n".join(shown({**ANSWER, "sinks": sinks}, width=200))
    assert "sink video (/srv/{stream}.mp4) is ok, 3 results lost before: disk full" in text
    assert "jsonl" not in text


def test_sparklines() -> None:
    assert spark([]) == ""
    assert spark([0.0, 0.0]) == "  "
    assert spark([0.0, 4.0, 8.0]) == " ▄█"
    assert len(spark([1.0] * 120)) == 20


# In a terminal


def test_keys_sort_and_end_it() -> None:
    """A pseudo-terminal as a user's; what is drawn there is read until it shows what was waited for."""
    with serving(FakeBoard()) as server:
        main_end, terminal_end = pty.openpty()
        ioctl(terminal_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        before = termios.tcgetattr(terminal_end)
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "top", server.url, "--every", "0.2"],
            stdin=terminal_end, stdout=terminal_end, stderr=terminal_end,
            env=os.environ | {"TERM": "xterm-256color"},
        )  # fmt: skip
        drawn = ""

        def until(text: str) -> None:
            nonlocal drawn
            limit_ns = now_ns() + 30_000_000_000
            while text not in drawn:
                left_s = (limit_ns - now_ns()) / 1e9
                assert left_s > 0, f"{text!r} was never drawn: {drawn[-2000:]!r}"
                if select.select([main_end], [], [], left_s)[0]:
                    drawn += os.read(main_end, 65536).decode("utf-8", "replace")

        try:
            until("(now: name)")
            drawn = ""
            os.write(main_end, b"s")
            until("(now: state)")
            assert drawn.index("gone") < drawn.index("gate")  # by state: what is down comes first
            server.close()
            until(" s old: ")  # and what it knew stays on the screen
            until("nothing listens")
            os.write(main_end, b"q")
            while process.poll() is None:
                if select.select([main_end], [], [], 0.1)[0]:
                    os.read(main_end, 65536)
            assert process.returncode == 0
            assert termios.tcgetattr(terminal_end) == before
        finally:
            process.kill()
            process.wait()
            os.close(main_end)
            os.close(terminal_end)
