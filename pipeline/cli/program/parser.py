# SPDX-License-Identifier: Apache-2.0
"""argparse with help that opens with examples and with refusals that name the remedy."""

from __future__ import annotations

import argparse
import difflib
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from pipeline.cli.program.running import CommandLineError
from pipeline.cli.terminal.printing import fitted


class Parser(argparse.ArgumentParser):
    """The options of one command, the common ones included. Options are never abbreviated."""

    def __init__(self, command: str, summary: str, examples: str) -> None:
        super().__init__(
            prog=f"pipeline {command}".strip(),
            description=summary[:1].upper() + summary[1:] + "." if summary else None,
            formatter_class=_Formatter,
            allow_abbrev=False,
            add_help=False,
        )
        self._examples = examples

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options, and as ``words`` what was given; raises CommandLineError where they are wrong."""
        common = self.add_argument_group("common options")
        common.add_argument("-h", "--help", action="help", help="this text")
        common.add_argument("--json", action="store_true", help="one JSON document on stdout")
        common.add_argument("--quiet", action="store_true", help="say only what went wrong")
        common.add_argument("--debug", action="store_true", help="tell more, and show tracebacks (or PIPELINE_DEBUG=1)")
        # Intermixed, because people write "replay a.mp4 --conf 0.5 b.mp4".
        namespace, unknown = self.parse_known_intermixed_args(list(arguments))
        for word in unknown:
            if word.startswith("-") and len(word) > 1:
                name = word.split("=", 1)[0]
                known = [option for action in self._actions for option in action.option_strings]
                self.error(f"unknown option {name}{did_you_mean(name, known)}")
        if unknown:
            self.error(f"one argument too many: {unknown[0]}")
        namespace.words = list(arguments)
        return namespace

    def format_help(self) -> str:
        """Examples first: most people look for one that is near to what they want."""
        examples = f"examples:\n{self._examples}\n" if self._examples else ""
        return fitted(examples + super().format_help())

    def error(self, message: str) -> NoReturn:
        """Raise CommandLineError: one line, the way to help, exit code 2."""
        raise CommandLineError(self.prog, _in_plain_words(message))


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """What stands below the options is a line per paragraph, which fills the terminal; what is indented stays."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = [line if line.startswith(" ") else textwrap.fill(line, width) for line in text.splitlines()]
        return "\n".join(indent + line for line in lines)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` where something known is near, else nothing."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean {names[near[0]]}?" if near else ""


def one_of(*choices: str) -> Callable[[str], str]:
    """An option whose value is one of a few words."""

    def convert(text: str) -> str:
        if text in choices:
            return text
        raise argparse.ArgumentTypeError(f"expected {', '.join(choices)}, found {text!r}{did_you_mean(text, choices)}")

    return convert


def several_of(*choices: str) -> Callable[[str], tuple[str, ...]]:
    """An option whose value is a comma-separated list of a few words."""
    check = one_of(*choices)

    def convert(text: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(check, comma_separated(text))))

    return convert


def comma_separated(text: str) -> tuple[str, ...]:
    """A list of words, each one once."""
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    if "" in words:
        raise argparse.ArgumentTypeError(f"expected words with commas between them, found {text!r}")
    return words


def folder(text: str) -> Path:
    """A folder's name. An empty one, as of a variable that is not set, would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected the name of a folder, found an empty one")
    return Path(text)


MOST = 10**12
"""More than there are frames in a life of a camera, and less than JSON can hold."""


def whole_number(text: str) -> int:
    """A whole number from 1 to :data:`MOST`."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 1{'' if number < 1 else f' to {MOST:,}'}, found {text!r}"
        )
    return number


def up_to_256(text: str) -> int:
    """A whole number from 1 to 256, as batch.max_size and batch.workers of a streams.yaml."""
    number = whole_number(text)
    if number > 256:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 256, found {text!r}")
    return number


def positive(text: str) -> float:
    """A finite number above 0."""
    number = _number(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return number


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text!r}")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _in_plain_words(message: str) -> str:
    prefix = "argument "
    return message.removeprefix(prefix) if message.startswith(prefix + "-") else message
