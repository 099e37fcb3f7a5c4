# SPDX-License-Identifier: Apache-2.0
"""Lines of words at the edge of a terminal, and where there is none."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from rich.console import Console
from rich.text import Text

from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_lines, say


class Terminal(io.StringIO):
    """Calls itself a terminal."""

    def isatty(self) -> bool:
        """As a terminal answers."""
        return True


@pytest.mark.parametrize(
    "line", ["outputs in runs/1/: clip.jsonl, report.json", Text("outputs in runs/1/: report.json")]
)
@pytest.mark.parametrize("width", [12, 24, 200])
def test_a_line_is_broken_between_words_at_the_edge_of_a_terminal_only(line: str | Text, width: int) -> None:
    words = str(line).split()
    terminal, pipe = Terminal(), io.StringIO()
    for file in (terminal, pipe):
        say(Console(file=file, width=width, color_system=None, highlight=False), line)
    assert pipe.getvalue() == f"{line}\n"
    assert terminal.getvalue().split() == words
    assert max(map(len, terminal.getvalue().splitlines())) <= width


def test_what_goes_on_stands_below_the_second_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "36")
    terminal, pipe = Terminal(), io.StringIO()
    lines = [
        "  size          three words or four or",
        "pipeline: a refusal with a/long-path/that-is-kept/whole",
        "",
        "short",
    ]
    for file in (terminal, pipe):
        print_lines(lines, file)
    assert pipe.getvalue().splitlines() == lines
    assert terminal.getvalue().splitlines() == [
        "  size          three words or four", "                or",
        "pipeline: a refusal with", "a/long-path/that-is-kept/whole",
        "", "short",
    ]  # fmt: skip


def test_the_log_in_a_terminal_is_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    with logging_to_stderr(logging.INFO):
        logging.getLogger("pipeline").info("overload: %s", "gate loses 40 % of its frames, and so does the lobby")
    assert terminal.getvalue().splitlines() == [
        "pipeline: overload: gate loses 40 % of",
        "its frames, and so does the lobby",
    ]
