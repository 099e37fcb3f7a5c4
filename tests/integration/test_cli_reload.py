# SPDX-License-Identifier: Apache-2.0
"""``pipeline reload``: a signal, and what became of it; the daemon is this very process, with a board of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from pipeline.cli import main, reload
from pipeline.daemon.reload_report import Outcome, ReloadReport
from tests.boards import FakeBoard, serving

GOOD = "model: {path: 'builtin:people'}\nstreams:\n  - {name: gate, source: 'pattern:'}\n"
FAULTY = GOOD + "  - {name: wrong, source: 'ftp://127.0.0.1/x'}\n"


@contextmanager
def hearing(react: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Within it this process is told by SIGHUP; which signals it got."""
    got: list[int] = []

    def heard(number: int, frame: FrameType | None) -> None:
        got.append(number)
        react()

    before = signal.signal(signal.SIGHUP, heard)
    try:
        yield got
    finally:
        signal.signal(signal.SIGHUP, before)


def written(folder: Path, text: str) -> str:
    path = folder / "streams.yaml"
    path.write_text(text)
    return str(path)


def section(url: str) -> str:
    return f"server: {{listen: '{url.removeprefix('http://').rstrip('/')}'}}\n"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (GOOD, 0, ""),
        (FAULTY, 3, "pipeline: reloaded, but for entries that are faulty\n"),
        ("streams: [", 1, "pipeline: reload refused, nothing was changed\n"),
    ],
)
def test_without_a_server_the_file_itself_tells(
    text: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hearing() as got:
        assert main(["reload", written(tmp_path, text), "--pid", str(os.getpid())]) == code
    assert got == [signal.SIGHUP], "the daemon's own log and metrics say it, too"
    out, err = capsys.readouterr()
    assert err.endswith(said)
    assert out.startswith("no fault in the file; the daemon was told to read it") == (code == 0)


@pytest.mark.parametrize(
    ("text", "outcome", "is_current", "code"),
    [
        (GOOD, "done", True, 0),
        (FAULTY, "done", True, 0),  # the faulty entry is of another shard
        (FAULTY, "done", False, 3),
        (GOOD, "refused", False, 1),  # by something that only the daemon sees
    ],
)
def test_the_daemon_is_asked(
    text: str, outcome: str, is_current: bool, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = FakeBoard()

    def react() -> None:
        board.reloads[outcome] += 1
        board.reload_succeeded = is_current

    with serving(board) as server, hearing(react) as got:
        path = written(tmp_path, text + section(server.url))
        assert main(["reload", path, "--pid", str(os.getpid())]) == code
    assert got == [signal.SIGHUP]
    out, err = capsys.readouterr()
    assert ((out, err) == ("reloaded\n", "")) == (code == 0)
    assert "nothing was changed; the daemon's log says why" in err or code != 1


@pytest.mark.parametrize(("outcome", "code"), [("done", 0), ("partial", 3), ("refused", 1)])
def test_what_the_daemon_wrote_is_believed(
    outcome: Outcome, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever this command can read: under systemd it has no credentials."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:/run/other")
    report = ReloadReport()
    faults = [] if outcome == "done" else ["streams.yaml:4:2: rtsp://me:hunter2-Secret@10.0.0.9/x: odd", "another"]
    path = written(tmp_path, f"{GOOD}server: {{listen: '0.0.0.0:80', token_file: /nowhere}}\n")
    with hearing(lambda: report.tell(outcome, faults)) as got:
        assert main(["reload", path, "--pid", str(os.getpid())]) == code
    assert got == [signal.SIGHUP]
    err = capsys.readouterr().err.splitlines()
    assert len(err) == (0 if outcome == "done" else 3)
    assert "hunter2" not in (tmp_path / "reload.json").read_text()
    with hearing(lambda: report.tell(outcome, faults)):
        assert main(["reload", path, "--pid", str(os.getpid()), "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], len(told["faults"])) == (outcome, len(faults))
    with hearing(lambda: report.tell("done", [])):
        assert main(["reload", path, "--pid", str(os.getpid()), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "reload.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": 1, "count": 3}'])
def test_what_an_earlier_daemon_left_is_not_believed(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "reload.json").write_text(left)
    with hearing() as got:
        assert main(["reload", written(tmp_path, GOOD), "--pid", str(os.getpid())]) == 0
    assert got == [signal.SIGHUP]


def test_a_folder_that_cannot_be_written_costs_no_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/proc/1")
    ReloadReport().tell("done", ())


def test_a_daemon_that_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "ANSWER_S", 0.3)
    with serving(FakeBoard()) as server, hearing():
        path = written(tmp_path, GOOD + section(server.url))
        assert main(["reload", path, "--pid", str(os.getpid())]) == 1
    assert "the daemon did not read its file within 0.3 s" in capsys.readouterr().err
    board = FakeBoard()
    board.books = None
    with serving(board) as server, hearing() as got:
        path = written(tmp_path, GOOD + section(server.url))
        assert main(["reload", path, "--pid", str(os.getpid())]) == 1
    assert "still loads its model; it reads its file after that" in capsys.readouterr().err
    assert got == [signal.SIGHUP]
    with hearing() as got:
        path = written(tmp_path, GOOD + section(server.url))  # which is closed now
        assert main(["reload", path, "--pid", str(os.getpid())]) == 0
    assert got == [signal.SIGHUP]
    assert "warning: whether it was taken cannot be asked: " in capsys.readouterr().err


def test_nobody_is_killed_by_a_wrong_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, GOOD)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert main(["reload", path, "--pid", str(other.pid)]) == 2
        assert "does not listen to SIGHUP; it is no daemon" in capsys.readouterr().err
        assert other.poll() is None
        other.kill()
    assert main(["reload", path, "--pid", str(other.pid)]) == 2
    assert "there is no such process" in capsys.readouterr().err
    assert main(["reload", str(tmp_path / "none.yaml"), "--pid", "1"]) == 2
    assert main(["reload", path]) == 2
    assert main(["reload", path, "--pid", "0"]) == 2
    assert main(["reload", path, "--pid", "9" * 30]) == 2
