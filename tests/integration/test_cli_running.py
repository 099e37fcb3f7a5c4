# SPDX-License-Identifier: Apache-2.0
"""What surrounds a command: exit codes by error, the log, warnings, signals, folders."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pipeline.cli.files.folder import output_folder
from pipeline.cli.program.running import Stopped, guarded, logging_to_stderr
from pipeline.cli.program.signals import StopRequests
from pipeline.errors import (
    ConfigError,
    InferenceError,
    ModelLoadError,
    PipelineError,
    SinkError,
    SourceInvalid,
    SourceUnavailable,
    UsageError,
)
from pipeline.redact import register_secret


def raising(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (UsageError("no such path"), 2, ["pipeline: no such path"]),
        (ConfigError(["a:1: x", "a:2: y"]), 2, ["pipeline: a:1: x", "pipeline: a:2: y"]),
        (ModelLoadError("not a model"), 2, ["pipeline: not a model"]),
        (InferenceError("bad"), 1, ["pipeline: bad"]),
        (SinkError("disk full"), 1, ["pipeline: disk full"]),
        (SourceUnavailable("refused"), 1, ["pipeline: refused"]),
        (SourceInvalid("no video"), 1, ["pipeline: no video"]),
        (PipelineError("lost count"), 1, ["pipeline: lost count"]),
        (KeyboardInterrupt(), 130, ["pipeline: stopped"]),
        (Stopped(signal.SIGINT), 130, ["pipeline: stopped"]),
        (Stopped(signal.SIGTERM), 143, ["pipeline: stopped"]),
        (
            ZeroDivisionError("division by zero"),
            1,
            ["pipeline: internal error: ZeroDivisionError: division by zero (--debug shows where; please report it)"],
        ),
    ],
)
def test_exit_codes(error: BaseException, code: int, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: raising(error)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == lines


def test_sigterm_leaves_no_temporary_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the system has it, it would end the program between any two steps."""
    before = signal.getsignal(signal.SIGTERM)

    def command() -> int:
        with TemporaryDirectory(dir=tmp_path):
            signal.raise_signal(signal.SIGTERM)
        return 0

    assert guarded(command) == 143
    assert capsys.readouterr().err == "pipeline: stopped\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (SourceUnavailable("rtsp://me:pa55-as-data@host: refused"), "SourceUnavailable", 1),
        (ModelLoadError("not a model"), "ModelLoadError", 2),
        (Stopped(signal.SIGTERM), "Stopped", 143),
        (ZeroDivisionError("division by zero"), "InternalError", 1),
    ],
)
def test_errors_as_data(error: BaseException, kind: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    register_secret("pa55-as-data")
    assert guarded(lambda: raising(error), as_json=True) == code
    out, err = capsys.readouterr()
    found = json.loads(out)["error"]
    assert (found["kind"], found["exit_code"]) == (kind, code)
    assert err == f"pipeline: {found['message']}\n"
    assert "pa55" not in out + err


@pytest.mark.parametrize("by", ["option", "environment"])
def test_tracebacks_on_demand_only(
    by: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "environment":
        monkeypatch.setenv("PIPELINE_DEBUG", "1")
    assert guarded(lambda: raising(ValueError("why")), debug=by == "option") == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "pipeline: internal error: ValueError: why"


def test_errors_tell_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    register_secret("pa55-of-running")
    for debug in (False, True):
        guarded(lambda: raising(ValueError("rtsp://me:pa55-of-running@host")), debug=debug)
        guarded(lambda: raising(SourceUnavailable("rtsp://me:pa55-of-running@host")), debug=debug)
    assert "pa55" not in capsys.readouterr().err


def test_the_log_goes_to_stderr_scrubbed_and_only_while_asked(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("pipeline.somewhere")
    register_secret("pa55-of-the-log")
    with logging_to_stderr(logging.INFO):
        log.info("begun")
        log.warning("slow: %s", "pa55-of-the-log")
        log.debug("not asked for")
        logging.getLogger("third.party").error("theirs")
    log.warning("after")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[:3] == ["pipeline: begun", "pipeline: warning: slow: ***", "pipeline: error: theirs"]
    assert "after" not in err.splitlines()


@pytest.mark.filterwarnings("default")
def test_warnings_are_for_developers(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(logging.WARNING):
        warnings.warn("this will change", FutureWarning, stacklevel=1)
    assert capsys.readouterr().err == ""
    with logging_to_stderr(logging.WARNING, debug=True):
        warnings.warn("this will change", FutureWarning, stacklevel=1)
    assert "this will change" in capsys.readouterr().err


class Recorder:
    """Counts what a signal did; ``wait`` is woken by it."""

    def __init__(self) -> None:
        self.begun = True
        self.drained = threading.Event()
        self.aborted = threading.Event()
        self.requests = StopRequests(lambda: self.begun, self.drained.set, self.aborted.set)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains_and_the_second_aborts(first: signal.Signals) -> None:
    recorder = Recorder()
    before = signal.getsignal(first)
    with recorder.requests as requests:
        os.kill(os.getpid(), first)
        assert recorder.drained.wait(60)
        assert not recorder.aborted.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert recorder.aborted.wait(60)
        os.kill(os.getpid(), signal.SIGINT)  # a third one changes nothing
    assert requests.received == first
    assert requests.aborted
    assert signal.getsignal(first) is before


def test_before_the_start_a_signal_ends_at_once() -> None:
    recorder = Recorder()
    recorder.begun = False
    with recorder.requests as requests, pytest.raises(Stopped) as stopped:
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.signum == signal.SIGTERM
    assert requests.received is None
    assert not recorder.drained.is_set()


def test_after_the_end_a_signal_does_not_cost_the_report() -> None:
    recorder = Recorder()
    with recorder.requests as requests:
        requests.hold()
        signal.raise_signal(signal.SIGINT)
        requests.release()
        with pytest.raises(Stopped):  # nothing is lost any more
            signal.raise_signal(signal.SIGTERM)
    assert requests.received is None
    assert not recorder.drained.is_set()


@pytest.mark.parametrize("before", [1, 2])
@pytest.mark.parametrize("when", ["writing", "printing"])
def test_the_second_signal_does_not_cost_the_report_where_it_comes_after_the_draining(when: str, before: int) -> None:
    """It asks that nothing is waited for, and there is nothing left."""
    recorder = Recorder()
    with recorder.requests as requests:
        for _ in range(before):
            signal.raise_signal(signal.SIGINT)
        requests.hold()
        if when == "printing":
            requests.release()
        for _ in range(2 - before):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped):  # what is written may hang as well
            signal.raise_signal(signal.SIGTERM)
    assert requests.received == signal.SIGINT


def test_the_second_signal_leaves_at_once_where_the_run_ended_by_itself() -> None:
    recorder = Recorder()
    with recorder.requests as requests:
        requests.hold()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
    assert not requests.aborted


def test_a_signal_while_the_main_thread_holds_the_lock_that_draining_needs() -> None:
    lock = threading.Lock()
    drained = threading.Event()

    def drain() -> None:
        with lock:
            drained.set()

    with StopRequests(lambda: True, drain, lambda: None):
        with lock:
            signal.raise_signal(signal.SIGINT)  # the handler runs right here, in this thread
        assert drained.wait(60)


class Finalised:
    """Ends while a signal comes: Python drops whatever the handler raises in there."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("begun", [False, True])
def test_a_signal_that_came_within_a_finaliser_is_heard_at_the_next_look(begun: bool) -> None:
    recorder = Recorder()
    recorder.begun = False
    with recorder.requests as requests:
        Finalised()
        recorder.begun = begun
        if not begun:
            with pytest.raises(Stopped):
                requests.heed()
        else:
            requests.heed()
            assert recorder.drained.wait(60)
            assert requests.received == signal.SIGINT


def test_no_signal_no_thread_left() -> None:
    recorder = Recorder()
    with recorder.requests:
        pass
    assert not recorder.drained.is_set()
    assert "signals" not in [thread.name for thread in threading.enumerate()]


def test_numbered_folders_count_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "7").mkdir(parents=True)
    (tmp_path / "runs" / "notes").mkdir()
    with output_folder(None) as first, output_folder(None) as second:
        assert (first, second) == (Path("runs/8"), Path("runs/9"))
    assert second.is_dir()


def _write_twice(path: Path) -> None:
    for _ in range(2):
        path.touch(exist_ok=False)


def test_new_folders_go_when_the_run_is_refused_and_old_ones_stay(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for wanted in (tmp_path / "new" / "deep", tmp_path / "old"):
        with pytest.raises(UsageError), output_folder(wanted):
            raise UsageError("no")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    with pytest.raises(FileExistsError), output_folder(tmp_path / "kept") as folder:
        _write_twice(folder / "result")
    assert (tmp_path / "kept" / "result").exists()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="root writes where others may not")
def test_a_folder_that_only_looks_writable_is_refused() -> None:
    task = Path("/proc/self/task")
    with pytest.raises(UsageError, match="/proc/self/task: cannot be written to"), output_folder(task):
        pass
