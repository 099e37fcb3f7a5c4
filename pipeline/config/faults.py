# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a configuration, and where: one line of text per fault."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.redact import scrub

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of the file: ``("streams", 0, "source")``."""


class Mark(NamedTuple):
    """A place in the file, counted from 1; line 0 means that there is none."""

    line: int
    column: int


NOWHERE = Mark(0, 0)
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")


class Fault(str):
    """One readable line, ``streams.yaml:12:5: streams[0].sorce: unknown key``, that also knows its parts.

    Attributes:
        mark: line and column, ``(0, 0)`` where the file as a whole is meant.
        path: the key path; empty for the file as a whole.
        message: what was wrong, without the place.
    """

    mark: Mark
    path: KeyPath
    message: str

    @classmethod
    def at(cls, file: str, mark: Mark, path: KeyPath, message: str) -> Fault:
        """The fault ``message`` at a place; scrubbed, although messages are made without values."""
        message, path = scrub(message), shown_path(path)
        place = file if mark == NOWHERE else f"{file}:{mark.line}:{mark.column}"
        fault = cls(": ".join(part for part in (place, path_text(path), message) if part))
        fault.mark, fault.path, fault.message = mark, path, message
        return fault


def path_text(path: KeyPath) -> str:
    """``streams[0].source`` for ``("streams", 0, "source")``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def shown_path(path: KeyPath) -> KeyPath:
    """``path`` as messages may show it.

    What does not look like a key becomes ``?``: an unquoted password with a comma in it ends as a key.
    """
    return tuple(part if isinstance(part, int) or _KEY.fullmatch(part) else "?" for part in path)


@dataclass(frozen=True, slots=True)
class StreamFault:
    """A stream entry that was left out.

    Attributes:
        index: position in the list ``streams``, from 0.
        name: its name, or None where it has no usable one.
        faults: what is wrong with it.
    """

    index: int
    name: str | None
    faults: tuple[Fault, ...]
