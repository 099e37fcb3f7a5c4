# SPDX-License-Identifier: Apache-2.0
"""``pipeline model profile``: where a detector's time and memory go, operator by operator."""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.model.options import add_model_options, model_config
from pipeline.cli.program.parser import Parser, whole_number
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_json, say
from pipeline.figures import count, percent

if TYPE_CHECKING:
    from pipeline.workshop.profiling import Profile

EXAMPLES = """\
  pipeline model profile detector.pt --frames clip.mp4
  pipeline model profile detector.pt --frames clip.mp4 --out profile/   and look at profile/trace.json
  pipeline model profile builtin:people --json | jq .convolution
"""

ROWS = 20
"""Operators shown; --json has all."""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline model profile FILE [options]"
    parser.add_argument("file", nargs="?", metavar="FILE", help="a TorchScript detector, or builtin:people")
    parser.add_argument("--frames", metavar="VIDEO", help="a recording to take frames from (default: a test pattern)")
    parser.add_argument("--count", type=whole_number, default=16, metavar="N", help="frames taken (default 16)")
    parser.add_argument("--device", metavar="D", help="auto (default), cpu, cuda or cuda:N")
    add_model_options(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where trace.json goes (default runs/<n>)")
    parser.epilog = (
        "Times are an operator's own, without those that it calls; one picture at a time, one thread on a CPU. The "
        "trace opens in ui.perfetto.dev or chrome://tracing.\n\n"
        "exit codes: 0 profiled; 1 the model failed on a frame; 2 the model, the video or an option was refused"
    )


def run(options: argparse.Namespace) -> int:
    """Look, write the trace, tell."""
    from pipeline.cli.files.folder import output_folder

    level = logging.CRITICAL if options.quiet else logging.WARNING
    with logging_to_stderr(level, debug=options.debug), ExitStack() as stack:
        model = model_config(options, options.file, confidence=0.25)
        from pipeline.build import detector_arguments
        from pipeline.workshop.compare import Limits, open_detector
        from pipeline.workshop.frames import sample
        from pipeline.workshop.profiling import profile_detector

        captures = sample(options.frames, options.count)
        detector = open_detector(
            model.path,
            Limits(model.confidence, model.iou),
            model.device,
            precision=model.precision,
            given=detector_arguments(model),
        )
        out = stack.enter_context(output_folder(options.out))
        found = profile_detector(detector, captures, out / "trace.json")
    if options.json:
        print_json({"model": model.path, "video": options.frames, **found.as_dict()})
    elif not options.quiet:
        _tell(found)
    return 0


def _tell(found: Profile) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, emoji=False)
    on_device = found.device != "cpu"
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("operator", overflow="ellipsis", no_wrap=True)
    for column in ("calls", "CPU ms", *(("GPU ms", "GPU MiB") if on_device else ()), "MiB", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for operator in found.operators[:ROWS]:
        device = (f"{operator.device_ms:.3f}", f"{operator.device_mb:.2f}") if on_device else ()
        table.add_row(
            operator.name,
            f"{operator.calls:g}",
            f"{operator.cpu_ms:.3f}",
            *device,
            f"{operator.cpu_mb:.2f}",
            percent(operator.share, 1),
        )
    console.print(table)
    if len(found.operators) > ROWS:
        console.print(f"and {len(found.operators) - ROWS} more (--json has all)", style="dim")
    console.print(
        f"{count(found.frames, 'frame')}, {found.device}, {found.precision}; per frame, operators' own time and memory"
    )
    console.print(f"convolution: {percent(found.convolution, 1)} of the operators' time", style="bold")
    say(
        console,
        f"first call {found.first_ms:.1f} ms, second {found.second_ms:.1f} ms (torch compiles meanwhile), then "
        f"{found.steady_ms:.2f} ms (median), with the profiler {found.profiled_ms:.2f} ms",
    )
    say(console, f"trace: {found.trace}")
