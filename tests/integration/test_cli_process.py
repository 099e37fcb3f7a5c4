# SPDX-License-Identifier: Apache-2.0
"""The program as a process of its own: terminals, pipes and signals. Few tests: each one imports torch anew."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cli import main
from tests.media import Media, media
from tests.models import NAMES, Cells, model, ultralytics_metadata

__all__ = ["media", "model"]

COMMAND = [sys.executable, "-m", "pipeline"]
PATIENCE_S = 90  # importing torch on a busy machine
QUIET = {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color", "PYTHONPATH": os.getcwd()}


@pytest.fixture(scope="module")
def long_clip(media: Media) -> Path:
    """A minute of video, which nobody waits for."""
    return media.clip(count=1500)


def environment(**changes: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | QUIET | changes


def until(terminal: int, wanted: str) -> str:
    """Read a terminal until a text has come."""
    seen = ""
    while wanted not in seen:
        ready, _, _ = select.select([terminal], [], [], PATIENCE_S)
        assert ready, f"{wanted!r} did not come, but: {seen!r}"
        try:
            seen += os.read(terminal, 65536).decode()
        except OSError:
            raise AssertionError(f"ended before {wanted!r} came: {seen!r}") from None
    return seen


def rest(terminal: int) -> str:
    """What a terminal still says until the program has closed it."""
    seen = b""
    while True:
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # Linux says so when the other side is closed
            os.close(terminal)
            return seen.decode()


def assert_quiet(seen: str) -> None:
    """What a terminal shows is progress, and no library's complaint."""
    assert "loading" in seen
    assert "warning" not in seen.lower()
    assert "deprecated" not in seen.lower()


def in_terminal(folder: Path, *arguments: object) -> tuple[subprocess.Popen[str], int]:
    """Start with stderr on a terminal and stdout in a pipe; returns the process and the terminal."""
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=inner,
        text=True,
    )
    os.close(inner)
    return process, terminal


def run(folder: Path, *arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_two_signals_in_a_terminal_leave_a_report(model: Path, long_clip: Path, tmp_path: Path) -> None:
    process, terminal = in_terminal(
        tmp_path, "replay", long_clip, "--model", model, "--out", "out", "--pace", "realtime", "--json"
    )
    with process:
        assert_quiet(until(terminal, "/1,500"))
        process.send_signal(signal.SIGTERM)
        until(terminal, "stopping after ")
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        report: dict[str, Any] = json.loads(process.stdout.read())
        rest(terminal)
        assert process.wait(PATIENCE_S) == 143
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    stream = report["streams"][long_clip.stem]
    assert stream["state"] == "stopped"
    frames = stream["frames"]
    assert 0 < frames["decoded"] < 1500
    assert frames["decoded"] == frames["processed"] + sum(frames["dropped"].values()) + frames["decimated"]


@pytest.mark.parametrize("ignored", [False, True], ids=["terminal", "nohup"])
def test_a_terminal_that_is_closed_stops_a_replay_as_any_signal_does(
    ignored: bool, model: Path, long_clip: Path, tmp_path: Path
) -> None:
    limit = "50" if ignored else "1,500"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        process, terminal = in_terminal(
            tmp_path,
            "replay",
            long_clip,
            "--model",
            model,
            "--out",
            "out",
            "--limit",
            limit.replace(",", ""),
            "--pace",
            "realtime",
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        until(terminal, f"/{limit}")
        os.close(terminal)  # nobody reads what it says any more
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE_S) == (0 if ignored else 128 + signal.SIGHUP)
    stream = json.loads((tmp_path / "out" / "report.json").read_text())["streams"][long_clip.stem]
    assert stream["state"] == ("finished" if ignored else "stopped")


def test_a_signal_in_a_terminal_drains_leaves_a_report_and_names_the_command_that_goes_on(
    media: Media, model: Path, long_clip: Path, tmp_path: Path
) -> None:
    words = ["replay", media.clip(count=5), long_clip, "--model", model, "--parallel", "1", "--pace", "realtime"]
    process, terminal = in_terminal(tmp_path, *words)
    with process:
        assert_quiet(until(terminal, "1/2 streams"))
        process.send_signal(signal.SIGINT)
        until(terminal, "stopping after the frames already read; Ctrl-C again drops them")
        assert process.stdout is not None
        process.stdout.read()
        said = " ".join(rest(terminal).split())
        assert process.wait(PATIENCE_S) == 130
    assert "1 of 2 streams finished; to go on with the rest: " in said
    assert "--out runs/1 --resume" in said
    report = json.loads((tmp_path / "runs/1/report.json").read_text())
    stream = report["streams"][long_clip.stem]
    frames = stream["frames"]
    assert (stream["state"], frames["dropped"]) == ("stopped", {})
    assert frames["decoded"] == frames["processed"] < 1500
    assert len((tmp_path / f"runs/1/{long_clip.stem}.jsonl").read_text().splitlines()) == frames["processed"]


def test_a_signal_while_the_model_is_loaded_ends_at_once_and_leaves_nothing(
    model: Path, long_clip: Path, tmp_path: Path
) -> None:
    process, terminal = in_terminal(tmp_path, "replay", long_clip, "--model", model)
    with process:
        until(terminal, "loading")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert "Traceback" not in rest(terminal)
        assert process.wait(PATIENCE_S) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a torch.export archive."""
    path = tmp_path_factory.mktemp("model") / "cells.pt2"
    batch = torch.export.Dim("batch", min=1, max=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Cells().eval(), (torch.zeros(2, 3, 64, 64),), dynamic_shapes=({0: batch},))
        files = ultralytics_metadata((64, 64), NAMES)
        torch.export.save(program, path, extra_files={key: json.dumps(value) for key, value in files.items()})
    return path


def test_both_formats_find_the_same_and_no_warning_reaches_the_terminal(
    model: Path, exported: Path, media: Media, tmp_path: Path
) -> None:
    clip = media.clip(texture=True)
    process, terminal = in_terminal(tmp_path, "replay", clip, "--model", exported, "--out", "pt2")
    with process:
        assert_quiet(rest(terminal))
        assert process.wait(PATIENCE_S) == 0
    assert main(["replay", str(clip), "--model", str(model), "--out", str(tmp_path / "pt"), "--quiet"]) == 0
    report = json.loads((tmp_path / "pt2" / "report.json").read_text())
    assert (report["model"]["format"], report["model"]["adapter"]) == ("torch.export", "ultralytics")
    found = [json.loads(line) for line in (tmp_path / "pt2" / f"{clip.stem}.jsonl").read_text().splitlines()]
    assert found == [json.loads(line) for line in (tmp_path / "pt" / f"{clip.stem}.jsonl").read_text().splitlines()]
    assert any(line["detections"] for line in found)


def test_without_a_terminal_there_is_no_progress_no_colour_and_no_warning(
    model: Path, media: Media, tmp_path: Path
) -> None:
    done = run(tmp_path, "replay", media.clip(), "--model", model, PYTHONWARNINGS="always")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert re.search(r"^25 frames of 1 stream in ", done.stdout, re.MULTILINE)


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "schema"],
        cwd=tmp_path,
        env=environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 1


def test_a_file_name_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    done = run(tmp_path, "probe", "caf\N{LATIN SMALL LETTER E WITH ACUTE}.mp4", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr == "pipeline: caf?.mp4: no such file or folder\n"


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("schema > /dev/full", 1, "pipeline: what is to be written has no room: No space left on device\n"),
        ("schema >&-", 0, ""),
        ("schema 2>&- >&- <&-", 0, ""),
    ],
)
def test_outputs_that_take_nothing(shell: str, code: int, said: str, tmp_path: Path) -> None:
    command = f"set -o pipefail; {sys.executable} -m pipeline {shell}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="the program setpriv is not installed")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["replay", "hidden"], "hidden: the folder cannot be read: Permission denied"),
        (["replay", "clip.mp4", "--out", "hidden/x"], "hidden/x: Permission denied"),
        (["replay", "--arrivals", "hidden"], "hidden/recording.json: Permission denied"),
        (["report", "hidden/x"], "hidden/x: Permission denied"),
        (["check", "hidden/x.yaml"], "hidden/x.yaml: cannot be read: Permission denied"),
    ],
)
def test_a_folder_without_rights_is_a_line(words: list[str], said: str, tmp_path: Path) -> None:
    """Also for root, without the rights to read what it may not."""
    (tmp_path / "hidden").mkdir(mode=0)
    (tmp_path / "clip.mp4").touch()
    dropped = "-dac_override,-dac_read_search"
    without = ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*without, *COMMAND, *words], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, f"pipeline: {said}\n")
