# SPDX-License-Identifier: Apache-2.0
"""The command that goes on with a replay that was stopped."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.files.resuming import how_to_go_on


def report(*states: str, lost: int = 0) -> dict[str, Any]:
    return {
        "streams": {f"s{number}": {"state": state} for number, state in enumerate(states)},
        "sinks": {"jsonl": {"lost": {"overflow": lost} if lost else {}, "faults": 0, "state": "ok"}},
    }


def said(told: dict[str, Any], *words: str, out: str | None = None, resume: bool = False, arrivals: Any = None) -> str:
    options = argparse.Namespace(
        words=list(words), out=None if out is None else Path(out), resume=resume, arrivals=arrivals
    )
    return "".join(how_to_go_on(options, told, Path(out or "runs/3")))


HALF = report("finished", "stopped", "stopped")


@pytest.mark.parametrize(
    ("words", "out", "resume", "command"),
    [
        (("a b.mp4", "c.mp4"), None, False, "pipeline replay 'a b.mp4' c.mp4 --out runs/3 --resume"),
        (("v", "--out", "x"), "x", False, "pipeline replay v --out x --resume"),
        (("v", "--out=x", "--resume"), "x", True, "pipeline replay v --out=x --resume"),
        (tuple(f"{n}.mp4" for n in range(90)), None, False, "the same command with --out runs/3 --resume"),
        ((*(f"{n}.mp4" for n in range(90)), "--resume"), "x", True, "the same command"),
        (("http://me:secret@h/a.mp4",), "x", False, "the same command with --resume"),
    ],
)
def test_it_is_the_command_that_was_given_and_what_it_lacks(
    words: tuple[str, ...], out: str | None, resume: bool, command: str
) -> None:
    text = said(HALF, *words, out=out, resume=resume)
    assert text == f"pipeline: 1 of 3 streams finished; to go on with the rest: {command}"


@pytest.mark.parametrize(
    ("told", "arrivals"),
    [
        (report("stopped"), None),
        (report("stopped", "stopped"), None),
        (report("finished", "finished"), None),
        (report("finished", "stopped", lost=3), None),
        (HALF, Path("rec")),
    ],
)
def test_where_all_would_begin_anew_nothing_is_said(told: dict[str, Any], arrivals: Path | None) -> None:
    assert said(told, "v", arrivals=arrivals) == ""
