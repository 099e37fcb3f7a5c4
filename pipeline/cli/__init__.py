# SPDX-License-Identifier: Apache-2.0
"""The command line. This module knows the commands by name only; each is imported when it is asked for.

A command is a file, and those of the ``model`` workshop have a room of their own. ``program`` is what surrounds all of
them, ``terminal`` what people see of them. What several of them need beside is in ``files`` (those of a run),
``live`` (a running daemon, seen from outside) and ``capacity`` (whether this machine can do what is asked of it).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from itertools import pairwise

from pipeline.cli.program.running import guarded, leave
from pipeline.cli.program.verbs import Verbs

COMMANDS = {
    "replay": "recorded files through the pipeline, every frame, as fast as they can be processed",
    "run": "cameras and files of a streams.yaml, until it is stopped",
    "top": "the streams of a running daemon, live in the terminal",
    "reload": "have a running daemon read its streams.yaml again, and say whether it took it",
    "check": "find every fault in a streams.yaml, and open every source in it",
    "plan": "what this machine can do with the cameras of a streams.yaml, predicted and then proven",
    "report": "the tables of a run once more, or several runs side by side",
    "probe": "codec, size, frame rate, key frames and jitter of one source",
    "model": "look into a detector; export, tune, quantise, compare and profile it",
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
    if arguments[:1] in (["-V"], ["--version"]):
        from importlib.metadata import version

        print(f"pipeline {version('video-pipeline')}")
        return 0
    return _VERBS.dispatch(arguments)


def _a_file(word: str) -> str:
    return f"for a file: pipeline {'run' if word.endswith(('.yaml', '.yml')) else 'replay'} {word}"


_VERBS = Verbs(
    program="pipeline",
    noun="command",
    summaries=COMMANDS,
    module="pipeline.cli.",
    about="Many video streams through one shared, batched TorchScript detector.",
    examples=_EXAMPLES,
    options=(
        "options:\n"
        "  -h, --help      this text; 'pipeline COMMAND --help' for a command's options\n"
        "  -V, --version   the version\n"
    ),
    a_file=_a_file,
    own_options=("--help", "--version"),
)
