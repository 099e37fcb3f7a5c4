# SPDX-License-Identifier: Apache-2.0
"""What a long command is at: on a terminal only, and one way for all of them."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import ExitStack

import pytest

from pipeline.cli.steps import steps


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
