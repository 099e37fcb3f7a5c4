# SPDX-License-Identifier: Apache-2.0
"""What a long command is at: on a terminal only, and one way for all of them."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import ExitStack

import pytest

from pipeline.cli.terminal.steps import steps


@pytest.mark.parametrize(
    ("terminal", "quiet", "shown"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_it_is_shown_on_a_terminal_only(
    terminal: bool,
    quiet: bool,
    shown: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1") if terminal else monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with caplog.at_level(logging.DEBUG), ExitStack() as stack:
        steps(argparse.Namespace(quiet=quiet), stack, "calibrating")("the second of two")
    said = capsys.readouterr()
    assert said.out == ""
    assert ("the second of two" in said.err) is shown
    assert ("the second of two" in caplog.text) is not shown


@pytest.mark.parametrize("quiet", [True, False])
def test_without_a_terminal_it_may_be_a_line_per_phase(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        tell = steps(argparse.Namespace(quiet=quiet), stack, "opening the sources", everywhere=True)
        for number in range(1, 4):
            tell(f"opening the sources: {number} of 3")
        for text in ("measuring: gate, 1 of 3", "measuring: the network", "proving: 1 of 20 s", "proving: 2 of 20 s"):
            tell(text)
    said = capsys.readouterr()
    assert said.out == ""
    phases = ["opening the sources", "measuring", "measuring: the network", "proving"]
    assert said.err.splitlines() == ([] if quiet else [f"pipeline: {phase}" for phase in phases])
