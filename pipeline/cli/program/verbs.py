# SPDX-License-Identifier: Apache-2.0
"""A first word that names what is to be done: the commands of the program, and the verbs of one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn

from pipeline.cli.program.parser import Parser, did_you_mean
from pipeline.cli.terminal.printing import fitted

COMMON = ("--json", "--quiet", "--debug")


@dataclass(frozen=True, slots=True)
class Verbs:
    """What may be said, and what is said about it.

    Attributes:
        program: what comes before, such as ``pipeline model``.
        noun: what one of them is called.
        summaries: each with what it does; ``module`` followed by its name has EXAMPLES, configure and run, or dispatch.
        module: the beginning of the names of their modules.
        about: what they are for, a sentence.
        examples: lines of help.
        options: lines of help.
        a_file: what is to be said of a word that looks like a file.
        own_options: options that stand alone, without one of them.
    """

    program: str
    noun: str
    summaries: Mapping[str, str]
    module: str
    about: str
    examples: str
    options: str
    a_file: Callable[[str], str]
    own_options: Sequence[str] = ("--help",)

    def dispatch(self, words: Sequence[str]) -> int:
        """Run the one that the first word names; returns the exit code. Raises CommandLineError where there is none."""
        if words[:1] == ["help"] and words[1:2] and words[1] in self.summaries:
            words = [*words[1:], "--help"]
        if not words or words[0] in ("-h", "--help", "help"):
            print(fitted(self._help()), end="")
            return 0 if words else 2
        name, rest = words[0], list(words[1:])
        if name not in self.summaries:
            self._refuse(name, words)
        module = import_module(f"{self.module}{name}")
        if hasattr(module, "dispatch"):  # it has verbs of its own
            return int(module.dispatch(rest))
        before = self.program.partition(" ")[2]
        parser = Parser(f"{before} {name}".strip(), self.summaries[name], module.EXAMPLES)
        module.configure(parser)
        return int(module.run(parser.parse(rest)))

    def _refuse(self, name: str, words: Sequence[str]) -> NoReturn:
        parser = Parser(self.program.partition(" ")[2], "", "")
        named = next((word for word in words if word in self.summaries), None)
        if name in COMMON:
            named = named or self.noun.upper()
        if name.startswith("-") and named is not None:
            parser.error(f"options follow the {self.noun}: {self.program} {named} {name} ...")
        if name.startswith("-"):
            parser.error(f"unknown option {name}{did_you_mean(name, self.own_options)}")
        if "." in name or "/" in name:
            parser.error(f"{name!r} is not a {self.noun}; {self.a_file(name)}")
        remedy = did_you_mean(name, (*self.summaries, "help")) or f"; expected one of {', '.join(self.summaries)}"
        parser.error(f"unknown {self.noun} {name!r}{remedy}")

    def _help(self) -> str:
        width = max(map(len, self.summaries))
        listed = "".join(f"  {name:<{width}}   {summary}\n" for name, summary in self.summaries.items())
        return (
            f"examples:\n{self.examples}\n"
            f"usage: {self.program} {self.noun.upper()} [options]\n\n"
            f"{self.about}\n\n"
            f"{self.noun}s:\n{listed}\n"
            f"{self.options}"
        )
