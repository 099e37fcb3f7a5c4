# SPDX-License-Identifier: Apache-2.0
"""``pipeline model VERB``: the model workshop. Each verb has a file of its own, ``model_<verb>.py``, like a command."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from pipeline.cli.parser import Parser, did_you_mean

VERBS = {
    "inspect": "what is inside a model file, without running it",
    "export": "a torchvision detector or a module of yours as a file that the pipeline runs",
    "tune": "the fastest way to run a detector here, measured, and kept for later runs",
    "quantize": "a detector in INT8, kept only if it still finds the same",
    "compare": "do two detectors find the same, which is faster, which is smaller",
    "profile": "where a detector's time and memory go, operator by operator",
}
"""Verbs and what they do. ``pipeline.cli.model_<verb>`` has EXAMPLES, configure and run, as every command has."""

EXAMPLES = """\
  pipeline model inspect detector.pt               what is in there, and what makes it large
  pipeline model export ssdlite320_mobilenet_v3_large -o ssdlite.pt
"""


def dispatch(arguments: Sequence[str]) -> int:
    """Run one verb; returns the exit code. Raises CommandLineError where the verb is unknown."""
    words = list(arguments)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(_help(), end="")
        return 0 if words else 2
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        _refuse(verb, words)
    module = import_module(f"pipeline.cli.model_{verb}")
    parser = Parser(f"model {verb}", VERBS[verb], module.EXAMPLES)
    module.configure(parser)
    return int(module.run(parser.parse(rest)))


def _refuse(verb: str, words: list[str]) -> None:
    parser = Parser("model", "", "")
    named = next((word for word in words if word in VERBS), None)
    if verb.startswith("-"):
        parser.error(f"options follow the verb: pipeline model {named or 'VERB'} {verb} ...")
    if "." in verb or "/" in verb:
        parser.error(f"{verb!r} is not a verb; to look into a file: pipeline model inspect {verb}")
    remedy = did_you_mean(verb, VERBS) or f"; expected one of {', '.join(VERBS)}"
    parser.error(f"unknown verb {verb!r}{remedy}")


def _help() -> str:
    width = max(map(len, VERBS))
    listed = "".join(f"  {name:<{width}}   {summary}\n" for name, summary in VERBS.items())
    return (
        f"examples:\n{EXAMPLES}\n"
        "usage: pipeline model VERB [options]\n\n"
        "The model workshop: what is done to model files before they run.\n\n"
        f"verbs:\n{listed}\n"
        "common options:\n"
        "  -h, --help      this text; 'pipeline model VERB --help' for a verb's options\n"
        "  --json          one JSON document on stdout\n"
        "  --quiet         say only what went wrong\n"
        "  --debug         tell more, and show tracebacks (or PIPELINE_DEBUG=1)\n"
    )
