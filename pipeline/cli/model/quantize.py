# SPDX-License-Identifier: Apache-2.0
"""``pipeline model quantize``: a detector in INT8, kept only if it still finds the same."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.model.options import add_model_options, model_config
from pipeline.cli.program.parser import Parser, fraction, whole_number
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_json, say
from pipeline.cli.terminal.steps import steps
from pipeline.errors import UsageError
from pipeline.figures import count, percent

if TYPE_CHECKING:
    from pipeline.workshop.int8.result import Quantized

EXAMPLES = """\
  pipeline model quantize detector.pt --frames clip.mp4 -o detector-int8.pt
  pipeline model quantize detector.pt --frames clip.mp4 -o out.pt --min-agreement 0.98
  pipeline replay videos/ --model detector-int8.pt
"""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline model quantize FILE --frames VIDEO -o OUT.pt [options]"
    parser.add_argument("file", metavar="FILE", help="a float TorchScript detector")
    parser.add_argument(
        "--frames",
        required=True,
        metavar="VIDEO",
        help="a recording of what it is to see: gives the ranges, and judges",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.pt", help="the file to write")
    parser.add_argument(
        "--min-agreement",
        type=fraction,
        default=0.95,
        metavar="F",
        help="least share of boxes matched at IoU 0.75 (default 0.95)",
    )
    parser.add_argument("--force", action="store_true", help="keep the file whatever it finds")
    parser.add_argument("--count", type=whole_number, default=64, metavar="N", help="frames taken (default 64)")
    parser.add_argument("--conf", type=fraction, metavar="F", help="lowest confidence (default 0.25)")
    parser.add_argument("--iou", type=fraction, metavar="F", help="overlap of two boxes (default 0.5)")
    add_model_options(parser)
    parser.epilog = (
        "Half of the frames calibrate, the other half judges. Where the boxes differ too much, layers stay in float: "
        "the last ones of the heads, the first one, then groups of others, as few as are found to be enough.\n\n"
        "exit codes: 0 written; 1 refused, since it does not agree or cannot be converted (nothing is written); "
        "2 a file or option was refused"
    )


def run(options: argparse.Namespace) -> int:
    """Convert, compare, keep or refuse."""
    _check(options.file, options.output)
    level = logging.CRITICAL if options.quiet else logging.WARNING
    with logging_to_stderr(level, debug=options.debug), ExitStack() as stack:
        model = model_config(options, options.file, confidence=0.25)
        from pipeline.build import detector_arguments
        from pipeline.workshop.compare import Limits
        from pipeline.workshop.frames import sample
        from pipeline.workshop.int8.quantize import check_convertible, quantize_file

        tell = steps(options, stack, "calibrating")
        tell("can it be converted?")
        check_convertible(model.path, model.sha256)
        captures = sample(options.frames, options.count)
        made = quantize_file(
            model.path,
            captures,
            options.output,
            wanted=options.min_agreement,
            force=options.force,
            limits=Limits(model.confidence, model.iou),
            given=detector_arguments(model),
            tell=tell,
        )
    if options.json:
        print_json(made.as_dict())
    elif not options.quiet:
        _tell(made)
    if not made.kept:
        print(
            f"pipeline: refused: {percent(made.share, 1)} of the boxes are the same, {percent(made.wanted, 1)} are "
            "asked for; nothing was written. Remedy: frames that are more like what it sees, --min-agreement, or "
            "--force",
            file=sys.stderr,
        )
    return 0 if made.kept else 1


def _check(file: str, output: Path) -> None:
    """Refuse before minutes of work what must fail after them; raises UsageError."""
    if output.is_dir():
        raise UsageError(f"{output}: this is a folder; -o needs the name of a file")
    if output.exists() and os.path.exists(file) and os.path.samefile(file, output):
        raise UsageError(f"{output}: this is the model itself; -o needs another name")
    if not output.parent.is_dir():
        raise UsageError(f"{output}: there is no folder {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise UsageError(f"{output}: the folder {output.parent} cannot be written to")


def _tell(made: Quantized) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, emoji=False)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("")
    for column in ("MB", "ms/frame", "boxes"):
        table.add_column(column, justify="right")
    found, agreement = made.comparison, made.comparison.agreement
    for name, side, boxes in (("before", found.a, agreement.count_a), ("after", found.b, agreement.count_b)):
        size = "-" if side.size_bytes is None else f"{side.size_bytes / 1e6:.2f}"
        table.add_row(f"{name} ({side.precision})", size, f"{side.ms:.2f}", f"{boxes:,}")
    console.print(table)
    kept_float = len(made.float_layers)
    lines: list[Any] = [
        f"the same boxes at IoU 0.75: {percent(made.share, 1)} of {max(agreement.count_a, agreement.count_b):,} in "
        f"{count(made.judged, 'frame')} ({percent(made.wanted, 1)} asked for)",
        f"{made.convolutions - kept_float} of {made.convolutions} convolutions in INT8, {kept_float} in float, "
        f"found in {count(len(made.attempts), 'attempt')}; one picture, one thread: {found.speedup:.2f} x as fast",
        *made.remarks,
    ]
    if made.kept:
        lines.append(f"written: {made.out}")
    for line in lines:
        say(console, line)
