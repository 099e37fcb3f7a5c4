# SPDX-License-Identifier: Apache-2.0
"""What every command says in the same way: one JSON document on stdout, faults as data, and how a run went."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout, in ASCII: it may hold the name of a file that is not valid text."""
    print(json.dumps(document, indent=2))


def warn_of_passwords(sources: Iterable[str]) -> None:
    """A line on stderr where a source of the command line holds a password."""
    from pipeline.redact import SourceUrl

    for source in sources:
        try:
            exposed = "://" in source and SourceUrl.parse(source).has_password
        except ValueError:  # refused elsewhere, with the reason
            continue
        if exposed:
            print(
                "pipeline: warning: a password on the command line shows in the list of processes; in a streams.yaml "
                "the keys username and password_env (or password_file) keep it out",
                file=sys.stderr,
            )
            return


def print_json_report(report: Mapping[str, Any]) -> None:
    """A report on stdout, byte for byte as ``report.json`` holds it."""
    from pipeline.report import to_json

    sys.stdout.flush()
    sys.stdout.buffer.write(to_json(report))
    sys.stdout.buffer.flush()


def print_report(
    report: Mapping[str, Any], files: Sequence[Path], *, to_stderr: bool = False, details: bool = False
) -> None:
    """The tables of a run, what went wrong, and where the outputs are: a screen, or with ``details`` all there is."""
    from rich.console import Console

    from pipeline.report.text import ending, tables

    console = Console(stderr=to_stderr, highlight=False, emoji=False)
    for part in tables(report, console.width, details=details):
        console.print(part)
    for line in ending(report, files, details=details):
        say(console, line)


def say(console: Console, line: RenderableType) -> None:
    """A line of words: broken between them at the edge of a terminal, and nowhere in a pipe or a file."""
    console.print(line, soft_wrap=not console.file.isatty())


def print_lines(lines: Iterable[str], file: TextIO | None = None) -> None:
    """Lines on stdout or ``file``. A terminal has them broken between words; what goes on is indented like its line, or
    stands below the second of two columns with two spaces between them."""
    file = sys.stdout if file is None else file
    columns = shutil.get_terminal_size().columns if file.isatty() else 0
    for line in "\n".join(lines).split("\n"):
        print(broken(line, columns) if 0 < columns < len(line) else line, file=file)


def fitted(text: str) -> str:
    """A text for stdout as :func:`print_lines` shows its lines."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    return "\n".join(broken(line, columns) if 0 < columns < len(line) else line for line in text.split("\n"))


def broken(line: str, columns: int) -> str:
    """A line as lines of so many columns, see :func:`print_lines`."""
    start = re.match(r" *(\S+( \S+)*  +)?", line)
    hang = start.end() if start is not None else 0
    wide = textwrap.TextWrapper(
        width=columns,
        subsequent_indent=" " * (hang if hang < columns // 2 else 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wide.fill(line)


def fault_as_data(line: str) -> dict[str, Any]:
    """A line of a ConfigError or a warning: ``text``, and where it is a :class:`pipeline.config.Fault` its parts."""
    data: dict[str, Any] = {"text": str(line), "line": None, "column": None, "path": [], "message": str(line)}
    mark = getattr(line, "mark", None)  # asked so, because a plain line needs no configuration to be imported
    if mark is not None:
        data |= {"path": list(getattr(line, "path", ())), "message": getattr(line, "message", str(line))}
        if mark.line:
            data |= {"line": mark.line, "column": mark.column}
    return data
