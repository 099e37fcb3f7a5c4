# SPDX-License-Identifier: Apache-2.0
"""``pipeline reload``: have a running daemon read its streams.yaml again, and say whether it took it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.cli.parser import Parser, whole_number
from pipeline.cli.telling import print_lines
from pipeline.errors import ConfigError, PipelineError, UsageError

if TYPE_CHECKING:
    from pipeline.cli.top_client import DaemonClient
    from pipeline.config import LoadedConfig

EXAMPLES = """\
  pipeline reload streams.yaml --pid 4711
  ExecReload=/opt/pipeline/bin/pipeline reload /etc/pipeline/streams.yaml --pid $MAINPID
"""

ANSWER_S: Final = 10.0
"""How long a daemon may take to say what became of it; it looks at its file several times a second."""
LOOK_S: Final = 0.2


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline reload STREAMS.yaml --pid PID [options]"
    parser.add_argument("config", type=Path, metavar="STREAMS.yaml", help="the file that the daemon was started with")
    parser.add_argument("--pid", type=whole_number, required=True, metavar="PID", help="process of the daemon")
    parser.epilog = (
        "Sends SIGHUP. A daemon with a section server is asked what became of it; of others the file itself tells.\n\n"
        "exit codes: 0 taken; 1 refused, nothing was changed, or no answer; 2 no such file, or no daemon has that PID; "
        "3 taken, but for entries that are faulty"
    )


def run(options: argparse.Namespace) -> int:
    """Look at the file, send the signal, wait for the answer."""
    from pipeline.config import load_config_quarantining

    if not options.config.exists():
        raise UsageError(f"{options.config}: no such file")
    _check_listens(options.pid)
    try:
        loaded = load_config_quarantining(options.config)
    except ConfigError as error:
        _signal(options.pid)  # its log and its metrics say so, too
        _say((*error.faults, "reload refused, nothing was changed"))
        return 1
    faults = [str(fault) for entry in loaded.quarantined for fault in entry.faults]
    taken = _taken(options, loaded)
    if taken or (taken is None and not faults):  # with --shard what is faulty may be another daemon's
        return 0
    _say(
        (
            *faults,
            "reloaded, but for entries that are faulty" if faults else "reload refused; the daemon's log says why",
        )
    )
    return 3 if faults else 1


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
    from pipeline.cli.top_client import Address, DaemonClient

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
        return _answer(client, before)


def _answer(client: DaemonClient, before: int) -> bool:
    """What the daemon says once it has read the file; raises PipelineError where it does not in time."""
    from pipeline.timing import now_ns

    pause = threading.Event()
    deadline_ns = now_ns() + int(ANSWER_S * 1e9)
    while now_ns() < deadline_ns:
        with suppress(PipelineError):  # it may be busy
            told = client.streams()
            if _reloads(told) > before:
                return bool(told["config"]["is_current"])
        pause.wait(LOOK_S)
    raise PipelineError(f"{client.address}: the daemon did not read its file within {ANSWER_S:g} s")


def _reloads(told: dict[str, Any]) -> int:
    """How often it has read its file, whatever came of it."""
    return sum(told.get("config", {}).get("reloads", {}).values())


def _say(lines: Iterable[str]) -> None:
    print_lines((f"pipeline: {line}" for line in lines), sys.stderr)
