# SPDX-License-Identifier: Apache-2.0
"""``pipeline model inspect``: what is inside a model file, told without running it."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.model.options import add_model_options, model_config
from pipeline.cli.program.parser import Parser
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_json, print_lines
from pipeline.errors import PipelineError, UsageError
from pipeline.redact import scrub

if TYPE_CHECKING:
    from pipeline.config.detection import ModelConfig

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
    add_model_options(parser)
    parser.epilog = (
        "Without --probe the file is read as data: nothing of it is run, imported or unpickled, and what is read is "
        "bounded, so that any file may be looked at. --config and --adapter are for --probe.\n\n"
        "exit codes: 0 described; 2 no such file, damaged, or something else than a model (it is said what), or "
        "described, but --probe found that it is not a detector that runs here"
    )


def run(options: argparse.Namespace) -> int:
    """Look and tell."""
    from pipeline.workshop.inspection.inspecting import inspect_model

    if not options.probe and (options.config is not None or options.adapter is not None):
        raise UsageError("--config and --adapter say how the model is loaded: they need --probe")
    if str(options.file).startswith("builtin:"):
        raise UsageError(f"{options.file}: it is built in: there is no file to look into")
    refused: PipelineError | None = None
    with logging_to_stderr(logging.ERROR, debug=options.debug):
        model = model_config(options, options.file) if options.probe else None
        told = inspect_model(options.file, code=options.code)
        if model is not None:
            try:
                told["probe"] = _probe(model, told["sha256"])
            except PipelineError as error:
                refused = error
                told["probe"] = {"error": scrub(str(error))}
    if options.json:
        print_json(told)
    elif not options.quiet:
        from pipeline.workshop.inspection.text import described

        print_lines(described(told))
    if refused is None:
        return 0
    sys.stdout.flush()
    print_lines([f"pipeline: {scrub(line)}" for line in str(refused).splitlines()], sys.stderr)  # one per fault
    return 2


def _probe(model: ModelConfig, digest: str) -> dict[str, Any]:
    """What the loaded detector says of itself. It must be the bytes that were described before."""
    from pipeline.build import detector_arguments
    from pipeline.detectors import build_detector

    arguments = {**detector_arguments(model), "sha256": model.sha256 or digest}
    detector = build_detector(model.path, **arguments, device=model.device, precision=model.precision)
    try:
        labels = {str(class_id): label for class_id, label in detector.labels.items()}
        return {**detector.model_info(), "labels": labels, "notes": list(detector.notes)}
    finally:
        detector.close()
