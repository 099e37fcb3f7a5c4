# SPDX-License-Identifier: Apache-2.0
"""``pipeline model inspect``: what is inside a model file, told without running it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from pipeline.cli.parser import Parser
from pipeline.cli.running import logging_to_stderr
from pipeline.cli.telling import print_json

EXAMPLES = """\
  pipeline model inspect detector.pt               nothing of the file is run
  pipeline model inspect detector.pt --code        with the program that it holds
  pipeline model inspect detector.pt --probe       load it, as replay would; runs its author's code
  pipeline model inspect detector.pt --json | jq .tensors
"""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline model inspect FILE [options]"
    parser.add_argument("file", type=Path, metavar="FILE", help="TorchScript (also .ptl), or torch.export's .pt2")
    parser.add_argument("--code", action="store_true", help="print the program that the file holds")
    parser.add_argument("--probe", action="store_true", help="load it as a detector too: runs its author's code")
    parser.epilog = (
        "Without --probe the file is read as data: nothing of it is run, imported or unpickled, and what is read is\n"
        "bounded, so that any file may be looked at.\n\n"
        "exit codes: 0 described; 2 no such file, damaged, or something else than a model (it is said what)"
    )


def run(options: argparse.Namespace) -> int:
    """Look and tell."""
    from pipeline.workshop.inspection.inspecting import inspect_model

    with logging_to_stderr(logging.ERROR, debug=options.debug):
        told = inspect_model(options.file, code=options.code)
        if options.probe:
            told["probe"] = _probe(options.file, told["sha256"])
    if options.json:
        print_json(told)
    elif not options.quiet:
        from pipeline.workshop.inspection.words import described

        print("\n".join(described(told)))
    return 0


def _probe(file: Path, digest: str) -> dict[str, Any]:
    """What the loaded detector says of itself. It must be the bytes that were described before."""
    from pipeline.detectors import build_detector

    detector = build_detector(file, sha256=digest)
    try:
        labels = {str(class_id): label for class_id, label in detector.labels.items()}
        return {**detector.model_info(), "labels": labels, "notes": list(detector.notes)}
    finally:
        detector.close()
