# SPDX-License-Identifier: Apache-2.0
"""``pipeline doctor``: what is wrong with this environment, or with a model, and what to do about it."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING

from pipeline.cli.model.options import add_model_options, model_config
from pipeline.cli.program.parser import Parser
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_json
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.workshop.doctor import Finding

EXAMPLES = """\
  pipeline doctor                              this environment
  pipeline doctor detector.pt                  and this model, on a test pattern
  pipeline doctor detector.pt --frames a.mp4   and on real pictures
  pipeline doctor --config streams.yaml        this environment, and the model that it names
"""

_STYLES = {"fault": "bold red", "warning": "yellow", "note": "dim"}


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline doctor [FILE] [options]"
    parser.add_argument("file", nargs="?", metavar="FILE", help="a detector to look at, too")
    parser.add_argument("--frames", metavar="VIDEO", help="show it frames of this recording (default: a test pattern)")
    add_model_options(parser)
    parser.epilog = (
        "Looks for: two OpenCV builds, missing system libraries, torch and torchvision that do not fit, more threads "
        "than cores, a GPU that cannot be used; and with FILE: too large for memory, refused, NaN in its outputs, "
        "memory that grows with every picture.\n\n"
        "exit codes: 0 nothing that breaks results (there may be warnings); 1 a fault was found; 2 no such file, "
        "or a configuration or option was refused"
    )


def run(options: argparse.Namespace) -> int:
    """Look and tell."""
    with logging_to_stderr(logging.CRITICAL, debug=options.debug):
        for option, given in (("--adapter", options.adapter), ("--frames", options.frames)):
            if given is not None and options.file is None and options.config is None:
                raise UsageError(f"{option} belongs to a model: give its FILE too")
        model = model_config(options, options.file) if options.file is not None or options.config is not None else None
        from pipeline.workshop.doctor import ENVIRONMENT, examine_environment, examine_model

        found = examine_environment()
        broken = any(finding.severity == "fault" and finding.name in ("libgl", "torchvision") for finding in found)
        if model is not None and not broken:
            from pipeline.build import detector_arguments

            found += examine_model(
                model.path,
                options.frames,
                device=model.device,
                precision=model.precision,
                given=detector_arguments(model),
            )
    code = 1 if any(finding.severity == "fault" for finding in found) else 0
    if options.json:
        print_json(
            {
                "ok": code == 0,
                "model": None if model is None else model.path,
                "findings": [finding.as_dict() for finding in found],
            }
        )
    else:
        _tell(found, [*ENVIRONMENT, *([] if model is None or broken else [model.path])], quiet=options.quiet)
    return code


def _tell(found: list[Finding], looked_at: list[str], *, quiet: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    if quiet:
        for finding in found:
            if finding.severity != "note":
                print(f"pipeline: {finding.severity}: {finding.found}; remedy: {finding.remedy}", file=sys.stderr)
        return
    console = Console(highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())
    for finding in found:
        style = _STYLES[finding.severity]
        console.print(Text.assemble((f"{finding.severity:<8}", style), (finding.name, "bold"), f"  {finding.found}"))
        console.print(Text(f"        remedy: {finding.remedy}"))
    if not any(finding.severity != "note" for finding in found):
        console.print(Text(f"nothing wrong was found; looked at: {', '.join(looked_at)}"))
