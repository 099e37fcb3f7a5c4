# SPDX-License-Identifier: Apache-2.0
"""``pipeline model tune``: the fastest way to run a detector on this machine, kept for later runs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.cli.model.options import add_model_options, model_config
from pipeline.cli.program.parser import Parser, fraction, positive
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_json, print_lines, say
from pipeline.cli.terminal.steps import steps
from pipeline.errors import UsageError
from pipeline.figures import percent

if TYPE_CHECKING:
    from pipeline.workshop.tuning.space import Effort, Subject

EXAMPLES = """\
  pipeline model tune detector.pt --frames clip.mp4       about a minute; run and replay use the choice from then on
  pipeline model tune detector.pt --latency-ms 40         the fastest of those that answer within 40 ms
  pipeline model tune detector.pt --quick --json | jq .choice
  pipeline model tune builtin:people --config streams.yaml
"""

ROWS = 14
"""Candidates shown; --json has all."""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline model tune FILE [options]"
    parser.add_argument("file", nargs="?", metavar="FILE", help="a TorchScript detector, or builtin:people")
    parser.add_argument("--frames", metavar="VIDEO", help="a recording of what it is to see (default: a test pattern)")
    parser.add_argument("--latency-ms", type=positive, metavar="L", help="longest time of a batch, median")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="the likely candidates only, in some seconds")
    effort.add_argument("--thorough", action="store_true", help="all combinations, and torch's compilers, in minutes")
    parser.add_argument("--conf", type=fraction, metavar="F", help="least confidence of a detection (default 0.4)")
    parser.add_argument("--device", metavar="D", help="auto (default), cpu, cuda or cuda:N")
    add_model_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="measure and tell, but keep nothing")
    parser.add_argument("--force", action="store_true", help="keep the choice though other programs were at work")
    parser.epilog = (
        "Candidates are measured with all cores busy, each in a process of its own, in turns. Only those count that "
        "find the same as the file does as it comes: 98 % of the boxes at IoU 0.9, in reduced precision 95 % at 0.75.\n"
        "ratio: pictures per second as a multiple of the file as it comes, one picture at a time with all threads.\n"
        "The choice is kept by model, machine and versions. replay and run use it wherever batch, workers and "
        "precision are left to auto, and name it in their report; model.tuned: false or --no-tuned does without.\n\n"
        "exit codes: 0 chosen; 1 nothing runs, nothing is fast enough, or the choice is not kept (other programs took "
        "more than a fifth of the CPU time, or the cache cannot be written); 2 the model or an option was refused"
    )


def run(options: argparse.Namespace) -> int:
    """Measure, keep, tell."""
    level = logging.CRITICAL if options.quiet else logging.WARNING
    with logging_to_stderr(level, debug=options.debug), ExitStack() as stack:
        from pipeline.workshop.frames import sample
        from pipeline.workshop.tuning.contest import Tuner
        from pipeline.workshop.tuning.nursery import Nursery
        from pipeline.workshop.tuning.result import report_of

        effort, subject = _effort(options), _subject(options)
        captures = sample(options.frames, effort.frames)
        nursery = stack.enter_context(Nursery(debug=options.debug))
        tell = steps(options, stack, "importing torch")
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tune-")))
        found = Tuner(subject, captures, effort, nursery, folder, latency_ms=options.latency_ms, tell=tell).run()
        report = report_of(found, subject, keep_it=not options.dry_run, force=options.force)
    if options.json:
        print_json(report)
    elif not options.quiet:
        _tell(report)
    if report["not_kept"] is None:
        return 0
    if options.json or options.quiet:
        print_lines([f"pipeline: {report['not_kept']}"], sys.stderr)
    return 1


def _effort(options: argparse.Namespace) -> Effort:
    from pipeline.workshop.tuning.space import QUICK, THOROUGH, USUAL

    return QUICK if options.quick else THOROUGH if options.thorough else USUAL


def _subject(options: argparse.Namespace) -> Subject:
    """What is tuned, by the configuration's model section and by options; raises UsageError, ConfigError."""
    from pipeline.build import detector_arguments, tuned_key
    from pipeline.host.cores import allowed_cores
    from pipeline.workshop.tuning.space import Subject

    model = model_config(options, options.file)
    if not model.path.startswith("builtin:") and not os.path.isfile(model.path):
        raise UsageError(f"{model.path}: no such model file")
    return Subject(
        model=model.path,
        device=model.device,
        given=detector_arguments(model),
        key=tuned_key(model),
        video=options.frames,
        cores=allowed_cores(),
    )


def _reasons(report: dict[str, Any]) -> Iterator[str]:
    """Why what is out is out: by recipe, or by candidate where the recipe's other candidates are not out."""
    out = dict(report["left_out"])
    inside = {row["recipe_name"] for row in report["candidates"] if row["left_out"] is None}
    for row in report["candidates"]:
        if row["left_out"] is not None:
            out.setdefault(row["name"] if row["recipe_name"] in inside else row["recipe_name"], row["left_out"])
    for reason in dict.fromkeys(out.values()):
        names = [name for name in out if out[name] == reason]
        yield f"left out: {', '.join(names) if len(names) < 4 else f'{len(names)} candidates'}: {reason}"


def _tell(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, emoji=False)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("candidate", overflow="fold")
    for column in ("batch", "workers", "ms/batch", "pictures/s", "ratio", "the same"):
        table.add_column(column, justify="right", no_wrap=True)
    measured = [row for row in report["candidates"] if row["fps"] is not None and row["left_out"] is None]
    shown = measured[:ROWS]
    for row in (*shown, *([] if report["baseline"] in shown else [report["baseline"]])):
        chosen, base = row == report["choice"], row == report["baseline"]
        same = "-" if row["agreement"] is None else percent(row["agreement"], 1)
        table.add_row(
            row["recipe_name"] + ("" if row["final"] else " *"),
            str(row["batch"]),
            f"{row['workers']} x {row['threads']}",
            f"{row['ms']:.2f}",
            f"{row['fps']:.1f}",
            f"{row['ratio']:.2f}",
            same,
            style="bold" if chosen else "dim" if base or not row["final"] else "",
        )
    console.print(table)
    if len(measured) > ROWS:
        console.print(f"and {len(measured) - len(shown)} more (--json has all)", style="dim")
    early = not all(row["final"] for row in shown)
    lines = ["* before the final, when the machine may have been quieter or busier"] if early else []
    lines += _reasons(report)
    choice = report["choice"]
    lines.append(
        f"chosen: {choice['name']}: {choice['fps']:.1f} pictures/s, {choice['ratio']:.2f} x the file as it comes"
    )
    if report["entry"] is not None:
        lines.append(f"kept: {report['entry']}")
    for line in (*lines, *report["remarks"]):
        say(console, line)
