# SPDX-License-Identifier: Apache-2.0
"""``pipeline report``: what a run left behind, told again, or several runs side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pipeline.cli.program.parser import Parser, folder
from pipeline.cli.terminal.printing import print_json, print_json_report, print_report, say

EXAMPLES = """\
  pipeline report runs/7                    its tables again, and report.html anew
  pipeline report runs/7 runs/8             what is faster, what is slower, and whether it only seems so
  pipeline report before after --json       the same as data
"""


_NO_EDGE = 160
"""Columns of a pipe or file, for rich."""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline report DIR... [options]"
    parser.add_argument("runs", nargs="+", type=folder, metavar="DIR", help="folder of a run, or its report.json")
    parser.epilog = (
        "Of several runs the first is what the others are compared with. Distributions are compared by the test of "
        "Kolmogorov and Smirnov on the buckets in the reports: 'differs' says that the shares of frames below some "
        "time are D apart, by 0.1 at least and by more than chance would have it (1 in 1000); 'same' that no such "
        "time was found; 'tail differs' that it is so, but one in a hundred frames of a run or more took half as long "
        "again as the slowest in a hundred of the other.\n\n"
        "exit codes: 0 told; 1 report.html cannot be written; 2 no report there, or none that this version understands"
    )


def run(options: argparse.Namespace) -> int:
    """Tell of one run, or compare."""
    from pipeline.errors import UsageError
    from pipeline.report.reading import read_report
    from pipeline.report.side_by_side import MOST

    if len(options.runs) > MOST:
        raise UsageError(f"{len(options.runs)} runs; at most {MOST} can be compared at once")
    reports = [(str(path), read_report(path)) for path in options.runs]
    try:
        return _tell(options, *reports[0]) if len(reports) == 1 else _compare(options, reports)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        wrong = ", ".join(name for name, report in reports if not _is_understood(report)) or reports[0][0]
        raise UsageError(
            f"{wrong}: is not a report that this version understands: {type(error).__name__}: {error}"
        ) from error


def _is_understood(report: dict[str, Any]) -> bool:
    """Whether it can be compared with itself."""
    from pipeline.report.comparison import compare

    try:
        compare([("", report)] * 2)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError):
        return False
    return True


def _tell(options: argparse.Namespace, name: str, report: dict[str, Any]) -> int:
    from pipeline.errors import SinkError
    from pipeline.report import save_html

    code, files = 0, []
    if Path(name).is_dir():
        try:
            files.append(save_html(report, Path(name)))
        except SinkError as error:
            code = 1
            print(f"pipeline: {error}", file=sys.stderr)
    if options.json:
        print_json_report(report)
    elif not options.quiet:
        print_report(report, files, details=True)
    return code


def _compare(options: argparse.Namespace, reports: list[tuple[str, dict[str, Any]]]) -> int:
    from pipeline.report.comparison import compare

    found = compare(reports)
    if options.json:
        print_json(found)
        return 0
    from rich.console import Console

    from pipeline.report.side_by_side import comparison

    # A pipe or file has no edge: rich's 80 columns would cut off the last figures of slow runs.
    console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else _NO_EDGE)
    for part in comparison(found):
        console.print(part) if hasattr(part, "columns") else say(console, part)
    return 0
