# SPDX-License-Identifier: Apache-2.0
"""How a replay that was stopped goes on."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.figures import count
from pipeline.redact import scrub

LONGEST: Final = 160
"""A longer command is not written out, as where somebody named his files by the hundred; nor one with a password."""


def how_to_go_on(options: argparse.Namespace, report: Mapping[str, Any], out: Path) -> Iterator[str]:
    """The command that goes on with the streams that were not finished; nothing where all of it would begin anew.

    Args:
        options: of the run, with its ``words``.
        report: what it left.
        out: where.
    """
    states = [stream["state"] for stream in report["streams"].values()]
    finished = states.count("finished")
    lost = any(sink["lost"] or sink["faults"] or sink["state"] == "failed" for sink in report["sinks"].values())
    if options.arrivals is not None or lost or not 0 < finished < len(states):
        return
    added = [] if options.out is not None else ["--out", str(out)]
    added += [] if options.resume else ["--resume"]
    command = shlex.join(["pipeline", "replay", *options.words, *added])
    if len(command) > LONGEST or scrub(command) != command:
        command = f"the same command with {shlex.join(added)}" if added else "the same command"
    yield f"pipeline: {finished} of {count(len(states), 'stream')} finished; to go on with the rest: {command}"
