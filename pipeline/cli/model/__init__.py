# SPDX-License-Identifier: Apache-2.0
"""``pipeline model VERB``: the model workshop. Each verb has a file of its own, ``<verb>.py``, like a command.

``options`` is what several of them are told of a model.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.cli.program.verbs import Verbs

VERBS = {
    "inspect": "what is inside a model file, without running it",
    "export": "a torchvision detector or a module of yours as a file that the pipeline runs",
    "tune": "the fastest way to run a detector here, measured, and kept for later runs",
    "quantize": "a detector in INT8, kept only if it still finds the same",
    "compare": "do two detectors find the same, which is faster, which is smaller",
    "profile": "where a detector's time and memory go, operator by operator",
}
"""Verbs and what they do. ``pipeline.cli.model.<verb>`` has EXAMPLES, configure and run, as every command has."""

EXAMPLES = """\
  pipeline model inspect detector.pt               what is in there, and what makes it large
  pipeline model export ssdlite320_mobilenet_v3_large -o ssdlite.pt
"""


def dispatch(arguments: Sequence[str]) -> int:
    """Run one verb; returns the exit code. Raises CommandLineError where the verb is unknown."""
    return _VERBS.dispatch(arguments)


_VERBS = Verbs(
    program="pipeline model",
    noun="verb",
    summaries=VERBS,
    module="pipeline.cli.model.",
    about="The model workshop: what is done to model files before they run.",
    examples=EXAMPLES,
    options=(
        "common options:\n"
        "  -h, --help      this text; 'pipeline model VERB --help' for a verb's options\n"
        "  --json          one JSON document on stdout\n"
        "  --quiet         say only what went wrong\n"
        "  --debug         tell more, and show tracebacks (or PIPELINE_DEBUG=1)\n"
    ),
    a_file=lambda word: f"to look into a file: pipeline model inspect {word}",
)
