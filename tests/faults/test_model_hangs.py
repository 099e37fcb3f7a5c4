# SPDX-License-Identifier: Apache-2.0
"""Models that never return: the program says so and ends, instead of standing still for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import pipeline
from pipeline.errors import ModelHung
from pipeline.host.orphans import no_orphan
from tests.media import Media, media
from tests.models import NAMES, Cells, HangsOnGrey, save, ultralytics_metadata
from tests.processes import Running, daemon

__all__ = ["daemon", "media"]

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
PATIENCE_S = 90  # importing torch on a busy machine
FILES = ultralytics_metadata((64, 64), NAMES)


class RaisesOnGrey(Cells):
    """The same, but it raises."""

    def forward(self, x: Tensor) -> Tensor:
        middle = x[:, :, 24:40, 24:40].flatten(1)
        grey = (middle.amax(1) - middle.amin(1) < 0.03) & ((middle[:, 0] * 255.0).round() != 114.0)
        if bool(grey.any()):
            raise ValueError("poison picture")
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores), 1)


class NeverAnswers(Cells):
    """Does not return from its first run, the one that finds out which input it takes."""

    def forward(self, x: Tensor) -> Tensor:
        while bool(x.sum() > -1.0):
            x = x + 0.0
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores), 1)


def written(media: Media, tmp_path: Path, timeout_s: float) -> Path:
    """A streams.yaml whose model hangs at its first picture."""
    model = save(HangsOnGrey(), tmp_path / "hangs.pt", FILES)
    path = tmp_path / "streams.yaml"
    path.write_text(
        f"model: {{path: {model}, timeout_s: {timeout_s}, device: cpu}}\nbatch: {{workers: 1}}\n"
        f"streams: [{{name: grey, source: {media.clip()}}}]\n"
        f"sinks: [{{type: jsonl, path: '{tmp_path}/out/{{stream}}.jsonl'}}]\n"
    )
    return path


@pytest.fixture
def config(media: Media, tmp_path: Path) -> Path:
    return written(media, tmp_path, 1)


def planning(config: Path, tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "plan", config, "--out", tmp_path / "offer", "--measure", "0.3", "--debug"],
        stderr=subprocess.PIPE, text=True, preexec_fn=no_orphan(), env=ENVIRONMENT,
    )  # fmt: skip


def test_run_leaves_with_the_reason_so_that_a_supervisor_can_start_anew(
    daemon: Callable[..., Running], config: Path
) -> None:
    code, log = daemon(config).end(None, PATIENCE_S)
    assert code == 1, log
    assert "the model has not answered for" in log
    assert "Traceback" not in log


def test_replay_leaves_a_report_that_names_the_reason(config: Path, media: Media, tmp_path: Path) -> None:
    out = tmp_path / "replayed"
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "replay", media.clip(), "--config", config, "--out", out],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert "the model has not answered for" in report["error"]
    (stream,) = report["streams"].values()
    frames = stream["frames"]
    assert frames["decoded"] == frames["processed"] + sum(frames["dropped"].values()) + frames["decimated"]


@pytest.mark.slow  # the way of a replay, which the test before takes
def test_from_python_it_is_an_exception(config: Path, media: Media) -> None:
    program = (
        "import os, sys, pipeline\n"
        "try:\n"
        "    list(pipeline.replay(sys.argv[1], config=sys.argv[2]))\n"
        "except pipeline.errors.ModelHung as error:\n"
        "    print(error, flush=True)\n"
        "    os._exit(7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, media.clip(), config],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert "timeout_s is 1" in done.stdout
    assert issubclass(ModelHung, pipeline.errors.ModelError)


def test_a_signal_is_heard_while_a_model_hangs_in_its_first_run(
    daemon: Callable[..., Running], tmp_path: Path, media: Media
) -> None:
    model = save(NeverAnswers(), tmp_path / "never.pt", FILES)
    path = tmp_path / "streams.yaml"
    path.write_text(
        f"model: {{path: {model}, device: cpu}}\nstreams: [{{name: a, source: {media.clip()}}}]\n"
        f"sinks: [{{type: jsonl, path: '{tmp_path}/out/{{stream}}.jsonl'}}]\n"
    )
    running = daemon(path)
    running.until("loading the model")
    code, log = running.end()
    assert code == 0, log
    assert "stopped before anything ran" in log


@pytest.mark.slow  # tests/unit/test_daemon_swap.py has the same in short
@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (HangsOnGrey(), "it has not come back for 1 s while comparing"),
        (RaisesOnGrey(), "it fails on a live frame (grey, frame "),
    ],
    ids=["hangs", "raises"],
)
def test_a_model_that_fails_on_live_frames_is_not_put_in(
    daemon: Callable[..., Running], module: Cells, reason: str, media: Media, tmp_path: Path
) -> None:
    """It did well with all that it was tried with; the one in use goes on, and a stop is heard."""
    for name, model in (("first.pt", Cells()), ("bad.pt", module)):
        save(model, tmp_path / name, FILES)

    def write(model: str) -> None:
        (tmp_path / "streams.yaml").write_text(
            f"model: {{path: {model}, timeout_s: 1, device: cpu}}\n"
            f"streams: [{{name: grey, source: {media.clip()}, loop: true, pace: realtime}}]\n"
            f"sinks: [{{type: jsonl, path: '{tmp_path}/out/{{stream}}.jsonl'}}]\n"
        )

    write("first.pt")
    running = daemon(tmp_path / "streams.yaml")
    running.until("detector ready")
    write("bad.pt")
    running.send(signal.SIGHUP)
    said = running.until("model swap 1: refused").string
    assert f"first.pt stays in use: {reason}" in said
    running.until("grey: live, [1-9]")
    code, log = running.end()
    assert code == 0, log
    assert "Traceback" not in log


@pytest.mark.slow
def test_a_plan_ends_with_the_reason(config: Path, tmp_path: Path) -> None:
    plan = planning(config, tmp_path)
    try:
        said = plan.communicate(timeout=PATIENCE_S)[1]
    finally:
        plan.kill()
    assert plan.returncode == 1
    assert "the model has not answered for" in said.splitlines()[-1]
    assert not (tmp_path / "offer").exists()


@pytest.mark.slow
def test_who_stops_a_plan_does_not_wait_for_the_model(media: Media, tmp_path: Path) -> None:
    plan = planning(written(media, tmp_path, 600), tmp_path)
    try:
        assert plan.stderr is not None
        assert any(line.startswith("pipeline: measuring") for line in plan.stderr)
        plan.send_signal(signal.SIGINT)
        assert plan.wait(30) == 130
    finally:
        plan.kill()
        plan.communicate()


def test_a_thread_that_comes_back_from_native_code_at_the_end_changes_no_exit_code() -> None:
    """The end of the interpreter would unwind it through C++, and the process end by SIGABRT."""
    program = (
        "import sys, threading, torch\n"
        "from pipeline import cli\n"
        "at_work = threading.Event()\n"
        "def work():\n"
        "    many = torch.zeros(400, 400)\n"
        "    at_work.set()\n"
        "    while True:\n"
        "        many @ many\n"
        "def command(arguments):\n"
        "    threading.Thread(target=work, daemon=True).start()\n"
        "    at_work.wait()\n"
        "    raise KeyboardInterrupt\n"
        "cli._dispatch = command\n"
        "sys.exit(cli.main())\n"
    )
    called = [sys.executable, "-c", program]
    done = subprocess.run(called, stderr=subprocess.PIPE, check=False, timeout=PATIENCE_S, env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (130, b"pipeline: stopped\n")
