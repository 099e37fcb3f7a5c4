# SPDX-License-Identifier: Apache-2.0
"""``pipeline run``: the daemon."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.capacity.overload import overload_told
from pipeline.cli.files.tracing import Tracing
from pipeline.cli.files.tracing import add_options as add_trace_options
from pipeline.cli.program.parser import Parser, folder, one_of, whole_number
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.program.signals import around_a_daemon
from pipeline.cli.terminal.printing import print_json_report, print_report

if TYPE_CHECKING:
    from pipeline.arrivals import Recorder
    from pipeline.config import Config
    from pipeline.config.outputs import ServerConfig
    from pipeline.daemon import Daemon
    from pipeline.daemon.board import Board
    from pipeline.telemetry import Telemetry
    from pipeline.web import WebServer

log = logging.getLogger("pipeline")

SWITCH_S = 0.001
"""How long a thread may keep the interpreter from the others. With the 5 ms that are usual, an answer waits for each of
a dozen busy threads in turn: 28 instead of 12 ms at the 99th percentile. Throughput is the same (design/web.md)."""

EXAMPLES = """\
  pipeline check streams.yaml && pipeline run streams.yaml
  pipeline run streams.yaml --out results     a report in results/ when it ends
  pipeline run streams.yaml --record-arrivals rec     for: pipeline replay --arrivals rec
"""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline run STREAMS.yaml [options]"
    parser.add_argument("config", type=Path, metavar="STREAMS.yaml", help="cameras, model and sinks")
    parser.add_argument("--out", type=folder, metavar="DIR", help="write report.json and report.html there at the end")
    add_trace_options(
        parser,
        trace="at the end, the journeys of the last seconds, for ui.perfetto.dev",
        profile="with --trace: of the first seconds instead, with torch's operators, as soon as these are over",
    )
    parser.add_argument(
        "--record-arrivals",
        type=folder,
        metavar="DIR",
        help="keep packets, when they came, drops and reconnects in a new folder, for 'pipeline replay --arrivals'",
    )
    parser.add_argument(
        "--record-limit",
        type=whole_number,
        metavar="MB",
        help="the recording ends, and the run goes on, when it has this many megabytes (default 20000)",
    )
    parser.add_argument("--shard", metavar="I/N", help="run the I-th of N parts of the streams (from 0)")
    parser.add_argument(
        "--insecure", action="store_true", help="serve HTTP without TLS on an address that others can reach"
    )
    parser.add_argument(
        "--log",
        type=one_of("text", "json"),
        default="text",
        metavar="F",
        help="text (default), or json: one document per line",
    )
    parser.epilog = (
        "SIGHUP, or a change of the file: streams are added, changed and removed, the others go on. SIGUSR1: the "
        "stacks of all threads on stderr. Under systemd (Type=notify) it tells when it is ready, and feeds the "
        "watchdog.\n"
        "--shard: each stream belongs to one part, by its name; all daemons have the same file.\n"
        "The first SIGTERM or Ctrl-C finishes what is under way, the second ends at once.\n\n"
        "exit codes:\n"
        "  0    stopped and drained, or all streams ended well\n"
        "  1    a failure, a sink lost data, or a taken port\n"
        "  2    configuration or model refused\n"
        "  3    some streams failed\n"
        "  130  ended by a second Ctrl-C; 143: by a second SIGTERM"
    )


def run(options: argparse.Namespace) -> int:
    """Run until stopped, then tell how it went."""
    with around_a_daemon() as follow:
        return _run(options, follow)


def _run(options: argparse.Namespace, follow: Callable[[Callable[[], int | None]], None]) -> int:
    from pipeline.cli.files.folder import output_folder
    from pipeline.daemon import Daemon
    from pipeline.daemon.shard import WHOLE, Shard
    from pipeline.replaying.earlier import REPORTS, refuse_foreign
    from pipeline.telemetry import Telemetry
    from pipeline.timing import Anchor, wall_ns

    sys.setswitchinterval(SWITCH_S)
    level = logging.WARNING if options.quiet else logging.INFO
    logged = logging_to_stderr(level, debug=options.debug, as_json=options.log == "json", folded=True, timed=True)
    with logged as say_all, ExitStack() as stack:
        out = stack.enter_context(output_folder(options.out)) if options.out is not None else None
        if out is not None:
            refuse_foreign(out, REPORTS)
        tracing = Tracing(options)
        since_ns = wall_ns()
        shard = WHOLE if options.shard is None else Shard.parse(options.shard)
        recorder = _recorder(options, stack)
        telemetry = Telemetry(Anchor())
        serve = partial(_serve, telemetry=telemetry, insecure=options.insecure)
        beside = partial(_beside, tracing, telemetry)
        daemon = Daemon(options.config, shard=shard, serve=serve, recorder=recorder, beside=beside)
        follow(lambda: daemon.asked if daemon.over else None)
        error = None
        try:
            code = daemon.run()
        except Exception as failure:
            if not daemon.ready:
                raise
            log.debug("the run failed", exc_info=True)
            error, code = str(failure) or type(failure).__name__, 1
        if recorder is not None:
            recorder.close()
        say_all()  # counts of what was said before, so that the report is the last thing
        if daemon.ready and not _report(options, daemon, tracing, telemetry, out, error, since_ns):
            code = code or 1
    return code


def _recorder(options: argparse.Namespace, stack: ExitStack) -> Recorder | None:
    """Who keeps what arrives, if that was asked for; at work until it is closed, or the stack is."""
    from pipeline.errors import UsageError

    if options.record_arrivals is None:
        if options.record_limit is not None:
            raise UsageError("--record-limit needs --record-arrivals: the folder of the recording")
        return None
    from pipeline.arrivals import LIMIT_MB, Recorder

    recorder = Recorder(options.record_arrivals, limit_mb=options.record_limit or LIMIT_MB)
    recorder.open()
    stack.callback(recorder.close)
    return recorder


def _serve(config: ServerConfig, board: Board, *, telemetry: Telemetry, insecure: bool) -> WebServer:
    """Join the server with what it serves; neither of them knows the other."""
    from pipeline.ledger import LATELY_NS
    from pipeline.metrics import CONTENT_TYPE, OPENMETRICS, Shown, exposition
    from pipeline.report import compose, trace
    from pipeline.timing import now_ns
    from pipeline.web import WebServer

    late = Shown(telemetry.anchor, telemetry.trace_id)

    def report() -> dict[str, Any] | None:
        ledger = board.ledger
        return None if ledger is None else compose(ledger.as_dict(now_ns()), board.facts())

    def trace_of_lately() -> bytes | None:
        ledger = board.ledger
        return None if ledger is None else trace(ledger.journal(now_ns() - LATELY_NS))

    return WebServer(
        config,
        board,
        metrics=lambda: exposition(board, now_ns()),
        metrics_type=CONTENT_TYPE,
        metrics_in={OPENMETRICS: lambda: exposition(board, now_ns(), late)},
        report=report,
        trace=trace_of_lately,
        insecure=insecure,
    )


@contextmanager
def _beside(tracing: Tracing, telemetry: Telemetry, config: Config, board: Board) -> Iterator[None]:
    """What looks at a daemon from its beginning to its end."""
    from pipeline.errors import ConfigError
    from pipeline.telemetry import wanted

    told = wanted(config.telemetry, os.environ)
    try:
        if told is not None:
            telemetry.begin(told, lambda: board.ledger)
    except ConfigError as refused:
        if config.telemetry is not None:
            raise
        log.warning("%s; nothing is sent to a collector", refused)
    tracing.begin_run(lambda: board.ledger, lambda: str(board.facts()["model"]["device"]))
    try:
        with overload_told(board):
            yield
    finally:
        telemetry.end(lambda: board.leaving)


def _report(
    options: argparse.Namespace,
    daemon: Daemon,
    tracing: Tracing,
    telemetry: Telemetry,
    out: Path | None,
    error: str | None,
    since_ns: int,
) -> bool:
    """Write and print the report; False where it could not be written."""
    from pipeline.cli.files.written import written_files
    from pipeline.errors import SinkError
    from pipeline.ledger import LATELY_NS
    from pipeline.report import compose, names, save_html, save_json

    measured: dict[str, Any] = daemon.accounts()
    report = compose(measured, daemon.facts() | telemetry.facts(), error=error)
    files = written_files(daemon.sinks, names(report["streams"]), since_ns)
    written = True
    try:
        if out is not None:
            files += [save_json(report, out), save_html(report, out)]
        files += tracing.save(lambda: daemon.ledger.journal(daemon.ledger.end_ns - LATELY_NS))
    except SinkError as failure:
        written = False
        log.error("%s", failure)
    if not options.quiet and options.log == "text":
        print_report(report, files, to_stderr=True)
    elif error is not None:
        log.error("%s", error)
    if options.json:
        print_json_report(report)
    return written
