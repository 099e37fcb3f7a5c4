# SPDX-License-Identifier: Apache-2.0
"""The command line. This module knows the commands by name only; each is imported when it is asked for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise

from pipeline.cli.parser import Parser, did_you_mean
from pipeline.cli.running import guarded, leave

COMMANDS = {
    "replay": "recorded files through the pipeline, every frame, as fast as they can be processed",
    "run": "cameras and files of a streams.yaml, until it is stopped",
    "top": "the streams of a running daemon, live in the terminal",
    "check": "find every fault in a streams.yaml, and open every source in it",
    "plan": "what this machine can do with the cameras of a streams.yaml, predicted and then proven",
    "report": "the tables of a run once more, or several runs side by side",
    "probe": "codec, size, frame rate, key frames and jitter of one source",
    "model": "the model workshop: look into model files, export them",
    "doctor": "what is wrong with this environment or with a model, and what to do about it",
    "schema": "the JSON Schema of streams.yaml, for editors",
    "bench": "this machine: the pipeline against plain loops, and against the sum of its own parts",
}

_EXAMPLES = """\
  pipeline replay clip.mp4                 detect people, results and a report in runs/1/
  pipeline replay videos/ --model my.pt    a folder of videos, your TorchScript model
  pipeline check streams.yaml              is the configuration right, do the cameras answer?
  pipeline run streams.yaml                run them all
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. ``argv`` without the program's name; None: those of the process, which is
    then ended here where a thread is left in native code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    code = guarded(
        lambda: _dispatch(arguments),
        debug="--debug" in arguments,
        as_json="--json" in arguments,
        log_json="--log=json" in arguments or ("--log", "json") in pairwise(arguments),
    )
    if argv is None and threading.active_count() > 1:
        leave(code)
    return code


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        if arguments[1:2] and arguments[1] in COMMANDS:
            return _dispatch([*arguments[1:], "--help"])
        print(_help(), end="")
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"pipeline {version('video-pipeline')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        _refuse(name, arguments)
    module = import_module(f"pipeline.cli.{name}")
    if hasattr(module, "dispatch"):  # a command with verbs of its own
        return int(module.dispatch(rest))
    parser = Parser(name, COMMANDS[name], module.EXAMPLES)
    module.configure(parser)
    return int(module.run(parser.parse(rest)))


def _refuse(name: str, arguments: list[str]) -> None:
    parser = Parser("", "", "")
    command = next((word for word in arguments if word in COMMANDS), None)
    if name in ("--json", "--quiet", "--debug"):
        command = command or "COMMAND"
    if name.startswith("-") and command is not None:
        parser.error(f"options follow the command: pipeline {command} {name} ...")
    if name.startswith("-"):
        parser.error(f"unknown option {name}{did_you_mean(name, ('--help', '--version'))}")
    if "." in name or "/" in name:
        verb = "run" if name.endswith((".yaml", ".yml")) else "replay"
        parser.error(f"{name!r} is not a command; for a file: pipeline {verb} {name}")
    remedy = did_you_mean(name, COMMANDS) or f"; expected one of {', '.join(COMMANDS)}"
    parser.error(f"unknown command {name!r}{remedy}")


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "".join(f"  {name:<{width}}   {summary}\n" for name, summary in COMMANDS.items())
    return (
        f"examples:\n{_EXAMPLES}\n"
        "usage: pipeline COMMAND [options]\n\n"
        "Many video streams through one shared, batched TorchScript detector.\n\n"
        f"commands:\n{listed}\n"
        "options:\n"
        "  -h, --help      this text; 'pipeline COMMAND --help' for a command's options\n"
        "  -V, --version   the version\n"
    )
