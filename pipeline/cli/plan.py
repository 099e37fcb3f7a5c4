# SPDX-License-Identifier: Apache-2.0
"""``pipeline plan``: what this machine can do with these cameras, predicted and then proven."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.program.parser import Parser, folder, positive
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_json_report, say

if TYPE_CHECKING:
    from pipeline.config import Config

EXAMPLES = """\
  pipeline plan streams.yaml                        about two minutes; plan.html and plan.json in runs/1/
  pipeline plan streams.yaml --out offer            for a customer
  pipeline plan streams.yaml --prove 300            look at it for five minutes
  pipeline plan streams.yaml --no-prove --json | jq .headroom.cameras
"""

FILES = ("plan.json", "plan.html")
PROVE_S = 20.0


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline plan STREAMS.yaml [options]"
    parser.add_argument("config", type=Path, metavar="STREAMS.yaml", help="cameras, model and sinks")
    parser.add_argument("--out", type=folder, metavar="DIR", help="folder for the plan (default runs/<n>)")
    parser.add_argument(
        "--prove",
        type=positive,
        metavar="S",
        help=f"seconds for which it is tried, and then what fits (default {PROVE_S:g})",
    )
    parser.add_argument("--no-prove", action="store_true", help="predict only")
    parser.add_argument(
        "--measure", type=positive, default=4.0, metavar="S", help="seconds for each kind of work (default 4)"
    )
    parser.add_argument(
        "--copy", type=positive, default=10.0, metavar="S", help="seconds of each camera that are copied (default 10)"
    )
    parser.add_argument(
        "--without-unreachable", action="store_true", help="plan for the others where a source does not open"
    )
    parser.epilog = (
        "Decoding, preprocessing, the network and the sinks are measured on this machine with these sources, and a "
        "simulation tells what they come to together: frames per second, p99, and how many more such cameras fit.\n"
        "Then the pipeline runs on copies of the cameras, and what is measured of it stands beside the prediction; and "
        "once more with as many further copies as are said to fit. "
        "Recordings play the part of cameras. Nothing is written to the sinks' own files; copies are deleted.\n\n"
        "exit codes:\n"
        "  0    sustainable, and proven\n"
        "  1    a source does not open, or nothing could be measured\n"
        "  2    configuration or model refused\n"
        "  3    sustainable without the sources that do not open\n"
        "  4    not sustainable\n"
        "  5    what was measured is not what was predicted\n"
        "  130  stopped by Ctrl-C; 143: by SIGTERM"
    )


def run(options: argparse.Namespace) -> int:
    """Plan, write, tell."""
    from pipeline.cli.files.folder import output_folder
    from pipeline.cli.program.signals import StopRequests
    from pipeline.config import load_config
    from pipeline.errors import ConfigError, UsageError

    if options.no_prove and options.prove is not None:
        raise UsageError("--prove and --no-prove contradict each other; leave one of them out")
    level = logging.CRITICAL if options.quiet else logging.WARNING
    with logging_to_stderr(level, debug=options.debug), ExitStack() as stack:
        config = load_config(options.config)
        if not any(stream.enabled for stream in config.streams):
            raise ConfigError(f"{options.config}: no stream to plan for: all are disabled")
        out = stack.enter_context(output_folder(options.out))
        _refuse_foreign(out)
        # A signal raises in this thread, wherever it is: threads are told, and copies of cameras are deleted.
        stack.enter_context(StopRequests(lambda: False, lambda: None, lambda: None))
        report, code = _plan(options, config)
        files = _save(report, out)
    if options.json:
        print_json_report(report)
    elif not options.quiet:
        from rich.console import Console

        from pipeline.plan.text import ending, tables

        console = Console(highlight=False, emoji=False)
        for part in tables(report):
            console.print(part)
        for line in ending(report):
            say(console, line)
        say(console, f"written: {', '.join(map(str, files))}")
    elif code:
        print(f"pipeline: {report['verdict']['text']}", file=sys.stderr)
    return code


def _refuse_foreign(out: Path) -> None:
    """Raise UsageError where a file would be replaced that no earlier plan wrote."""
    import json

    from pipeline.errors import UsageError

    try:
        ours = json.loads((out / FILES[0]).read_bytes()).get("command") == "plan"
    except (OSError, ValueError, AttributeError):
        ours = False
    for name in FILES:
        if not ours and (out / name).exists():
            raise UsageError(f"{out / name}: already exists and is not from an earlier plan; give another --out")


def _plan(options: argparse.Namespace, config: Config) -> tuple[dict[str, Any], int]:
    from pipeline.cli.run import SWITCH_S
    from pipeline.cli.terminal.steps import steps
    from pipeline.plan.facts import as_dict
    from pipeline.plan.run import PlanOptions, make_plan
    from pipeline.threads import StopFlag

    sys.setswitchinterval(SWITCH_S)  # as the daemon has it
    asked = PlanOptions(
        measure_s=options.measure,
        camera_s=options.copy,
        prove_s=None if options.no_prove else options.prove or PROVE_S,
        without_unreachable=options.without_unreachable,
    )
    stop = StopFlag()
    with ExitStack() as stack:
        stack.callback(stop.set)
        plan = make_plan(config, asked, stop, steps(options, stack, "opening the sources", everywhere=True))
    report = as_dict(plan, str(options.config))
    return report, report["verdict"]["exit_code"]


def _save(report: dict[str, Any], out: Path) -> list[Path]:
    """``plan.json``, and the page drawn from it; raises SinkError."""
    from pipeline.plan.page import page
    from pipeline.report import save, to_json

    documents = {"plan.json": to_json(report), "plan.html": page(report).encode("utf-8", "replace")}
    return [save(out / name, data) for name, data in documents.items()]
