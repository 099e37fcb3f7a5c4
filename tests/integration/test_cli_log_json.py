# SPDX-License-Identifier: Apache-2.0
"""``run --log json``: each line on stderr is a document, however it ends."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.cli.program.running import logging_to_stderr
from pipeline.daemon import Daemon
from pipeline.daemon.shard import Shard
from pipeline.testing import FakeDetector
from tests.daemons import JSONL, config, no_network

__all__ = ["no_network"]

PATTERN = "name: bars, source: 'pattern:?size=64x48&fps=200&frames=4', policy: every_frame"


def documents(text: str) -> list[dict[str, Any]]:
    """Of each line."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "message"} <= one.keys() for one in found)
    return found


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("streams: [", (), "not valid YAML"),
        ("streams: [{name: a, sorce: x}]", (), "unknown key"),
        (None, (), "no such file"),
        ("{}", ("--nope",), "--nope"),
        ("{}", ("--log=json", "--nope"), "Try 'pipeline run --help'."),
        ("{}", ("--shard", "x"), "expected I/N"),
        ("{}", ("--trace", "/nowhere/at/all"), "there is no folder"),
        ("streams: [", ("--debug",), "Traceback (most recent call last)"),
    ],
)
def test_what_is_refused(
    text: str | None, options: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "streams.yaml"
    if text is not None:
        path.write_text(text)
    how = () if "--log=json" in options else ("--log", "json")
    assert main(["run", str(path), *how, *options]) == 2
    assert said in " ".join(one["message"] for one in documents(capsys.readouterr().err))


def test_a_port_in_use(no_network: FakeDetector, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path.write_text(path.read_text() + f"server: {{listen: '127.0.0.1:{taken.getsockname()[1]}'}}\n")
        assert main(["run", str(path), "--log", "json"]) == 1
    assert "in use" in documents(capsys.readouterr().err)[-1]["message"]


def test_a_signal_before_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Shard, "parse", lambda text: signal.raise_signal(signal.SIGTERM))
    assert main(["run", str(tmp_path / "x.yaml"), "--shard", "0/1", "--log", "json"]) == 128 + signal.SIGTERM
    assert [one["message"] for one in documents(capsys.readouterr().err)] == ["stopped"]


def test_what_nobody_foresaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(daemon: Daemon) -> int:
        raise RuntimeError("rtsp://me:hunter2@host/x\nand more")

    monkeypatch.setattr(Daemon, "run", broken)
    assert main(["run", str(tmp_path / "x.yaml"), "--log", "json"]) == 1
    (said,) = documents(capsys.readouterr().err)
    assert said["message"].startswith("internal error: RuntimeError")
    assert "hunter2" not in str(said)


class Broken:
    def __del__(self) -> None:
        raise ValueError("in a finaliser")


def _in_a_thread() -> None:
    def work() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=work, name="lost")
    thread.start()
    thread.join()


def _in_a_finaliser() -> None:
    Broken()
    gc.collect()


@pytest.mark.parametrize(("stray", "said"), [(_in_a_thread, "in a thread"), (_in_a_finaliser, "in a finaliser")])
def test_exceptions_that_nobody_caught(
    stray: Callable[[], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = threading.excepthook, sys.unraisablehook
    with logging_to_stderr(20, as_json=True):
        stray()
    (document,) = documents(capsys.readouterr().err)
    assert said in document["message"]
    assert "Traceback" in document["trace"]
    assert (threading.excepthook, sys.unraisablehook) == before


def test_a_program_that_loads_all_its_libraries(tmp_path: Path) -> None:
    (tmp_path / "none.pt").write_text("this is no model")
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL])
    command = [sys.executable, "-m", "pipeline", "run", str(path), "--log", "json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ), check=False)
    assert ended.returncode == 2
    found = documents(ended.stderr)
    assert [one["level"] for one in found] == ["info", "error"]
