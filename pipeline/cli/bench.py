# SPDX-License-Identifier: Apache-2.0
"""``pipeline bench``: how fast this machine is, and how near the pipeline comes to what the work itself costs."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.cli.program.parser import Parser, positive, whole_number
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_json_report

EXAMPLES = """\
  pipeline bench                                  a first answer, in about two minutes
  pipeline bench --rounds 5 --seconds 10          steadier figures
  pipeline bench --out results/                   bench.json, and chart.html drawn from it
  pipeline bench --json | jq .efficiency
"""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline bench [options]"
    parser.add_argument("--rounds", type=whole_number, default=3, metavar="N", help="runs of each program (default 3)")
    parser.add_argument("--seconds", type=positive, default=4.0, metavar="S", help="length of each clip (default 4)")
    parser.add_argument("--files", type=whole_number, default=4, metavar="N", help="clips (default 4)")
    parser.add_argument("--batch", type=whole_number, default=4, metavar="N", help="frames per batch (default 4)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write bench.json and chart.html there")
    parser.epilog = (
        "Clips of 1080p H.264 are rendered once and kept in the user's cache folder. The pipeline runs against what "
        "decoding, resizing and the network cost alone, and against a plain loop and a thread pool of OpenCV and "
        "TorchScript, after it was checked that all find the same.\n\n"
        "exit codes: 0 measured; 1 a program failed or found something else; 2 refused before the start"
    )


def run(options: argparse.Namespace) -> int:
    """Measure, write, tell."""
    from pipeline.cli.files.folder import output_folder

    level = logging.CRITICAL if options.quiet else logging.WARNING
    with logging_to_stderr(level, debug=options.debug), ExitStack() as stack:
        out = stack.enter_context(output_folder(options.out)) if options.out is not None else None
        report = _measure(options)
        files = _save(report, out) if out is not None else []
    if options.json:
        print_json_report(report)
    elif not options.quiet:
        from rich.console import Console

        from pipeline.bench.text import tables

        console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        for part in tables(report):
            console.print(part)
        if files:
            console.print(f"written: {', '.join(map(str, files))}")
    return 0


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    from pipeline.bench.material import Material
    from pipeline.bench.run import BenchOptions, run_bench
    from pipeline.host.caches import cache_folder
    from pipeline.report import describe_machine
    from pipeline.report.machine import package_version
    from pipeline.timing import rfc3339, wall_ns

    machine = describe_machine()
    material = Material(files=options.files, seconds=options.seconds)
    settings = BenchOptions(cache_folder("bench"), material, options.rounds, options.batch, machine["cores"])
    created = rfc3339(wall_ns())
    with ExitStack() as stack:
        figures = run_bench(settings, _progress(options, stack))
    return {"version": package_version(), "command": "bench", "created": created, "machine": machine, **figures}


def _progress(options: argparse.Namespace, stack: ExitStack) -> Callable[[str], None]:
    """Each step as a line that replaces the one before; nothing without a terminal on stderr."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if options.quiet or not sys.stderr.isatty() or console.is_dumb_terminal:
        return lambda text: None
    status = stack.enter_context(console.status("starting"))
    return status.update


def _save(report: dict[str, Any], folder: Path) -> list[Path]:
    """``bench.json``, and the chart drawn from it; raises SinkError."""
    from pipeline.bench.chart import chart
    from pipeline.report import save, to_json

    documents = {"bench.json": to_json(report), "chart.html": chart(report).encode()}
    return [save(folder / name, data) for name, data in documents.items()]
