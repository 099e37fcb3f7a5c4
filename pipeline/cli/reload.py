# SPDX-License-Identifier: Apache-2.0
"""``pipeline reload``: have a running daemon read its streams.yaml again, and say whether it took it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.cli.program.parser import Parser, whole_number
from pipeline.cli.terminal.printing import print_json, print_lines
from pipeline.errors import ConfigError, PipelineError, UsageError

if TYPE_CHECKING:
    from pipeline.config import LoadedConfig

EXAMPLES = """\
  pipeline reload streams.yaml --pid 4711
  ExecReload=/opt/pipeline/bin/pipeline reload /etc/pipeline/streams.yaml --pid $MAINPID
"""

ANSWER_S: Final = 10.0
"""How long a daemon may take to say what became of it; it looks at its file several times a second."""
LOOK_S: Final = 0.2

_SAID: Final = {
    "partial": "reloaded, but for entries that are faulty",
    "refused": "reload refused, nothing was changed",
}
_DONE: Final = "reloaded"
_NOT_ASKED: Final = "no fault in the file; the daemon was told to read it, and its log says what changed"
_CODES: Final = {"done": 0, "refused": 1, "partial": 3}


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline reload STREAMS.yaml --pid PID [options]"
    parser.add_argument("config", type=Path, metavar="STREAMS.yaml", help="the file that the daemon was started with")
    parser.add_argument("--pid", type=whole_number, required=True, metavar="PID", help="process of the daemon")
    parser.epilog = (
        "Sends SIGHUP. Under systemd (RuntimeDirectory=) the daemon tells what became of it. Elsewhere it is asked, "
        "where it has a section server; else the file itself tells.\n\n"
        "exit codes: 0 taken; 1 refused, nothing was changed, or no answer; 2 no such file, or no daemon has that PID; "
        "3 taken, but for entries that are faulty"
    )


def run(options: argparse.Namespace) -> int:
    """Send the signal, and say what became of it."""
    if not options.config.exists():
        raise UsageError(f"{options.config}: no such file")
    _check_listens(options.pid)
    told = _outcome(options)
    faults, outcome = told["faults"], told["outcome"]
    if options.json:
        print_json({"outcome": outcome, "faults": faults})
    elif outcome != "done":
        _say((*faults, _SAID[outcome] if faults else f"{_SAID[outcome]}; the daemon's log says why"))
    elif not options.quiet:
        print_lines([_DONE if told.get("asked", True) else _NOT_ASKED])
    return _CODES[outcome]


def _outcome(options: argparse.Namespace) -> dict[str, Any]:
    """``outcome`` (``done``, ``partial``, ``refused``) and ``faults``; raises PipelineError where nobody answers."""
    before = _reported(options.pid)
    if before is None:
        return _by_looking(options)
    _signal(options.pid)
    return _answer(lambda: _reported(options.pid), lambda now: now["count"] > before["count"])


def _reported(pid: int) -> dict[str, Any] | None:
    """What the daemon itself wrote of its last reload, where systemd gives it a folder; None where it did not."""
    from pipeline.daemon.reload_report import report_file

    path = report_file(os.environ)
    try:
        told = None if path is None else json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and told.get("pid") == pid else None


def _by_looking(options: argparse.Namespace) -> dict[str, Any]:
    """The same for a daemon that writes no report: by the file itself, and by the API where there is one."""
    from pipeline.config import load_config_quarantining

    try:
        loaded = load_config_quarantining(options.config)
    except ConfigError as error:
        _signal(options.pid)  # its log and its metrics say so, too
        return {"outcome": "refused", "faults": error.faults}
    faults = [str(fault) for entry in loaded.quarantined for fault in entry.faults]
    taken = _taken(options, loaded)
    if taken or (taken is None and not faults):  # with --shard what is faulty may be another daemon's
        return {"outcome": "done", "faults": [], "asked": taken is not None}
    return {"outcome": "partial" if faults else "refused", "faults": faults}


def _check_listens(pid: int) -> None:
    """Raise UsageError unless a process has that number and does not die of SIGHUP, as others do."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/status").read_text() if sys.platform == "linux" else ""
    except (ProcessLookupError, FileNotFoundError, OverflowError):
        raise UsageError(f"--pid {pid}: there is no such process") from None
    except PermissionError:
        raise UsageError(f"--pid {pid}: this process is another user's") from None
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "1")
    if not int(caught, 16) >> (signal.SIGHUP - 1) & 1:
        raise UsageError(f"--pid {pid}: this process does not listen to SIGHUP; it is no daemon of `pipeline run`")


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise PipelineError(f"process {pid} cannot be told: {error.strerror}") from error


def _taken(options: argparse.Namespace, loaded: LoadedConfig) -> bool | None:
    """Whether the daemon says that all of the file is in use; None where it cannot be asked."""
    from pipeline.cli.live.client import Address, DaemonClient

    server = loaded.config.server
    if server is None or not server.port:
        _signal(options.pid)
        return None
    with closing(DaemonClient(Address.of_config(options.config))) as client:
        try:
            before = _reloads(client.streams())
        except PipelineError as error:
            _signal(options.pid)
            _say((f"warning: whether it was taken cannot be asked: {error}",))
            return None
        _signal(options.pid)

        def asked() -> dict[str, Any] | None:
            with suppress(PipelineError):  # it may be busy
                return client.streams()
            return None

        return bool(_answer(asked, lambda told: _reloads(told) > before)["config"]["is_current"])


def _answer(ask: Callable[[], dict[str, Any] | None], is_new: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What the daemon says once it has read its file; raises PipelineError where it does not in time."""
    from pipeline.cli.live.client import is_loading
    from pipeline.timing import now_ns

    told = None
    pause = threading.Event()
    deadline_ns = now_ns() + int(ANSWER_S * 1e9)
    while now_ns() < deadline_ns:
        told = ask()
        if told is not None and is_new(told):
            return told
        pause.wait(LOOK_S)
    if told is not None and is_loading(told):
        raise PipelineError("the daemon still loads its model; it reads its file after that")
    raise PipelineError(f"the daemon did not read its file within {ANSWER_S:g} s")


def _reloads(told: dict[str, Any]) -> int:
    """How often it has read its file, whatever came of it."""
    return sum(told.get("config", {}).get("reloads", {}).values())


def _say(lines: Iterable[str]) -> None:
    print_lines((f"pipeline: {line}" for line in lines), sys.stderr)
