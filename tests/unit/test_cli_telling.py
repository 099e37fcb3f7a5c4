# SPDX-License-Identifier: Apache-2.0
"""Lines of words at the edge of a terminal, and where there is none."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from pipeline.cli.telling import say


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
