# SPDX-License-Identifier: Apache-2.0
"""What the command line says before any work is done: help, versions, refusals; without a heavy import."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import COMMANDS, main
from pipeline.timing import now_ns

HEAVY = {"torch", "torchvision", "cv2", "av", "numpy", "pydantic", "rich", "yaml", "orjson", "matplotlib"}


def spoken(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["replay", "--help"], ["check", "--help"], ["nope"]])
def test_words_need_no_heavy_import(arguments: list[str]) -> None:
    program = (
        "import sys, contextlib, io\n"
        "from pipeline.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        f"    main({arguments})\n"
        f"print(*sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_help_is_quick() -> None:
    """Under 0.3 s; the best of a few, because a busy machine proves nothing. CPU time of the child alone."""

    def once() -> float:
        before = os.times()
        begun_ns = now_ns()
        subprocess.run([sys.executable, "-m", "pipeline", "--help"], stdout=subprocess.DEVNULL, check=True, timeout=60)
        wall_s = (now_ns() - begun_ns) / 1e9
        after = os.times()
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        return min(wall_s, cpu_s)

    assert min(once() for _ in range(5)) < 0.3


def test_help_opens_with_examples_and_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = spoken(capsys, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("examples:\n  pipeline replay ")
    listed = re.findall(r"^  (\w+)   ", out.split("commands:")[1].split("options:")[0], re.MULTILINE)
    assert listed == list(COMMANDS)
    assert max(map(len, out.splitlines())) <= 100


def test_no_command_is_help_and_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert spoken(capsys)[0] == 2


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help_of_each_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = spoken(capsys, command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("examples:\n  ")
    assert {"--json", "--quiet", "--help"} <= set(re.findall(r"--[a-z]+", out))
    assert spoken(capsys, "help", command)[1] == out


@pytest.mark.parametrize("words", [["--help"], ["model"], *([command, "--help"] for command in COMMANDS)])
def test_help_in_a_narrow_terminal_breaks_between_words(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = spoken(capsys, *words)[1]
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    narrow = spoken(capsys, *words)[1]
    assert max(map(len, narrow.splitlines())) <= 60
    if words in (["--help"], ["model"]):
        assert narrow.split() == wide.split()


def test_replay_has_every_option_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    out = spoken(capsys, "replay", "--help")[1]
    wanted = """--config --model --out --save --pace --fps --limit --parallel --resume --conf --iou --classes --device
        --precision --batch --workers --inline --show --strict --json --quiet"""
    assert set(wanted.split()) <= set(re.findall(r"--[a-z]+", out))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    version = importlib.metadata.version("video-pipeline")
    assert spoken(capsys, "--version") == (0, f"pipeline {version}\n", "")


def test_replay_wants_a_source_or_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = spoken(capsys, "replay")
    assert (code, out) == (2, "")
    assert err == "pipeline: nothing to replay: name a SOURCE, or a recording with --arrivals DIR\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["replya", "a.mp4"], "did you mean replay?"),
        (["chekc"], "unknown command 'chekc'; did you mean check?\n"),
        (["sing"], "unknown command 'sing'; expected one of replay, run, top, reload, check, "),
        (["a.mp4"], "pipeline replay a.mp4"),
        (["streams.yaml"], "pipeline run streams.yaml"),
        (["--json", "replay"], "options follow the command: pipeline replay --json"),
        (["--verison"], "did you mean --version?"),
        (["--quiet"], "options follow the command: pipeline COMMAND --quiet"),
        (["replay", "a", "--cnof", "0.5"], "unknown option --cnof; did you mean --conf?"),
        (["replay", "a", "--limt=3"], "unknown option --limt; did you mean --limit?"),
        (["replay", "a", "--lim", "3"], "unknown option --lim; did you mean --limit?"),
        (["replay", "a", "--pace", "realtme"], "did you mean realtime?"),
        (["replay", "a", "--save", "csv,jsnol"], "found 'jsnol'; did you mean jsonl?"),
        (["replay", "a", "--save", "csv,"], "words with commas"),
        (["replay", "a", "--precision", "fp8"], "expected auto, fp32, bf16, fp16, int8, found 'fp8'"),
        (["replay", "a", "--conf", "1.5"], "--conf: expected a number from 0 to 1, found '1.5'"),
        (["replay", "a", "--conf", "nan"], "--conf: expected a number from 0 to 1, found 'nan'"),
        (["replay", "a", "--limit", "9" * 20], "--limit: expected a whole number from 1 to 1,000,000,000,000, found"),
        (["replay", "a", "--batch", "257"], "--batch: expected a whole number from 1 to 256, found '257'"),
        (["replay", "a", "--workers", "100000"], "--workers: expected a whole number from 1 to 256, found"),
        (["replay", "a", "--limit", "0"], "--limit: expected a whole number from 1, found '0'"),
        (["replay", "a", "--fps", "inf"], "--fps: expected a number above 0, found 'inf'"),
        (["replay", "a", "--batch"], "--batch: expected one argument"),
        (["check", "a", "b"], "one argument too many: b"),
        (["probe"], "required: SOURCE"),
        (["hlep"], "unknown command 'hlep'; did you mean help?"),
    ],
)
def test_refusals_name_the_remedy(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = spoken(capsys, *arguments)
    assert (code, bool(out)) == (2, "--json" in arguments)
    assert expected in err
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("pipeline")
    assert lines[1].startswith("Try 'pipeline")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["replay", "nowhere.mp4"], "nowhere.mp4: no such file or folder"),
        (["replay", "."], "no videos in this folder"),
        (["replay", "x", "--resume"], "--resume needs --out"),
        (["replay", "x", "--show", "--inline"], "leave one of them out"),
        (["replay", "x", "--out", "file.txt"], "file.txt: is a file; --out needs a folder"),
        (["replay", "x", "--out", "/proc/nowhere"], "/proc/nowhere: cannot be made"),
        (["replay", "x", "--out", "/proc"], "/proc: cannot be written to"),
        (["replay", "x", "--config", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["check", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["run", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["probe", "nowhere.mp4"], "nowhere.mp4: no such file or folder"),
        (["probe", "foo://bar"], "foo: are not allowed"),
        (["model", "inspect", "builtin:people"], "builtin:people: it is built in: there is no file to look into"),
        (["plan", "a.yaml", "--prove", "3", "--no-prove"], "--prove and --no-prove contradict each other"),
    ],
)
def test_what_cannot_start_is_refused_in_one_line_and_leaves_nothing(
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").touch()
    code, _, err = spoken(capsys, *arguments)
    assert code == 2
    assert expected in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["replay", "nowhere.mp4"], "UsageError", "nowhere.mp4: no such file or folder"),
        (["replay", "x", "--conf", "7"], "UsageError", "--conf: expected a number from 0 to 1, found '7'"),
        (["sing"], "UsageError", "unknown command 'sing'; expected one of"),
        (["probe", "nowhere.mp4"], "UsageError", "nowhere.mp4: no such file or folder"),
        (["bench", "--out", "file.txt"], "UsageError", "file.txt: is a file; --out needs a folder"),
        (["schema", "--draft"], "UsageError", "unknown option --draft"),
        (["run", "nowhere.yaml"], "ConfigError", "nowhere.yaml: no such file"),
        (["run", "faulty.yaml"], "ConfigError", "faulty.yaml:1:1: cameras: unknown key; did you mean 'streams'?"),
    ],
)
def test_with_json_a_refusal_is_one_document_as_well(
    arguments: list[str],
    kind: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").touch()
    (tmp_path / "faulty.yaml").write_text("cameras: []\nmodle: {}\n")
    code, out, err = spoken(capsys, *arguments, "--json")
    error = json.loads(out)["error"]
    assert (code, error["kind"], error["exit_code"]) == (2, kind, 2)
    assert error["message"].startswith(message)
    lines = error["message"].splitlines()
    assert [line.split(": ", 1)[1] for line in err.splitlines() if not line.startswith("Try ")] == lines
    assert [fault["text"] for fault in error.get("faults", [])] == (lines if kind == "ConfigError" else [])
    if arguments[-1] == "faulty.yaml":
        assert [(fault["line"], fault["path"]) for fault in error["faults"]][::2] == [
            (1, ["cameras"]),
            (2, ["modle"]),
        ]


def test_show_needs_a_display(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, _, err = spoken(capsys, "replay", "x.mp4", "--show")
    assert code == 2
    assert "--show needs a display" in err
    assert list(tmp_path.iterdir()) == []


def test_the_schema_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = spoken(capsys, "schema")
    assert (code, err) == (0, "")
    schema = json.loads(out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"model", "batch", "defaults", "streams", "sinks", "server", "telemetry"} == set(schema["properties"])


@pytest.mark.parametrize("columns", ["80", "100"])
@pytest.mark.parametrize(
    "command", ["plan", "report", "bench", "doctor", "run", "model tune", "model compare", "model export"]
)
def test_words_below_the_options_fill_the_terminal(
    command: str, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, _ = spoken(capsys, *command.split(), "--help")
    assert code == 0
    words = [line for line in out.split("common options:")[1].splitlines() if not line.startswith(" ")]
    assert int(columns) - 20 < max(map(len, words)) < int(columns)
