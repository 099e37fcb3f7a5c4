# SPDX-License-Identifier: Apache-2.0
"""YAML text to nodes: PyYAML composes them, but no alias is looked up, no anchor and no tag obeyed."""

from __future__ import annotations

import re
from typing import Any

import yaml

from pipeline.config.faults import NOWHERE, Fault, Mark
from pipeline.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
TAG = "tag:yaml.org,2002:"

# PyYAML quotes pieces of the text, which may be a secret. Names of tokens such as '<scalar>' and YAML's own signs stay.
_QUOTED = re.compile(r"'[^']*'" + r'|"[^"]*"')
_HARMLESS = re.compile(r"'(<[a-z ]+>|[]},:?-])'")
_REMEDIES = {
    "cannot start any token": "put a value that begins with a special character in quotes, and indent with spaces only",
    "mapping values are not allowed": "check the indentation; a value that holds ': ' needs quotes",
    "could not find expected ':'": "check the indentation, and that every quote is closed",
    "expected <block end>": "check the indentation: keys of one level begin in one column",
    "expected ',' or": "check that every bracket is closed; a value with a comma, a bracket or a brace needs quotes",
    "expected the node content": "a value is missing here; check that every bracket is closed",
    "unknown escape": "write values with backslashes in single quotes",
}


def compose(data: bytes, file: str) -> tuple[yaml.Node | None, dict[int, str]]:
    """The root node of the only document in ``data``, and why nodes are refused, by their ``id``.

    Raises:
        ConfigError: too large, not UTF-8, or not YAML, with the line.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError([Fault.at(file, NOWHERE, (), f"the file is larger than {MAX_BYTES >> 20} MiB")])
    loader = _open(data, file)
    try:
        return loader.compose_only_document(), loader.refused
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or loader.get_mark()
        raise ConfigError([Fault.at(file, mark_of(mark), (), _syntax_message(error))]) from None
    except (ValueError, OverflowError):
        # PyYAML hands the numbers of \U escapes to chr() unchecked.
        raise ConfigError([Fault.at(file, mark_of(loader.get_mark()), (), "this escape is not a character")]) from None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Composes nodes, but neither looks up an alias nor obeys an anchor or a tag: it notes that they were there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.refused: dict[int, str] = {}
        self._depth = 0

    # The type stubs leave the parser untyped.
    def peek_event(self) -> Any:
        """The next event, not taken."""
        return super().peek_event()  # type: ignore[no-untyped-call]

    def get_event(self) -> Any:
        """The next event, taken."""
        return super().get_event()  # type: ignore[no-untyped-call]

    def compose_only_document(self) -> yaml.Node | None:
        """The root node, None for an empty document; raises MarkedYAMLError for a second document."""
        self.get_event()
        root = None if self.check_event(yaml.StreamEndEvent) else self.compose_document()
        if not self.check_event(yaml.StreamEndEvent):
            raise _refused_at(self.peek_event(), "a second document begins here; one was expected")
        return root

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node and all below it; overrides the composer's own."""
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            nothing = yaml.ScalarNode(TAG + "null", "", self.get_event().start_mark)
            return self._refuse(nothing, "aliases (*) are not accepted")
        if self._depth >= MAX_DEPTH:
            raise _refused_at(event, f"nested more than {MAX_DEPTH} levels deep")
        anchored, event.anchor = event.anchor is not None, None
        tagged, event.tag = event.tag is not None, None
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and anchored:
            self._refuse(node, "anchors (&) are not accepted")
        elif node is not None and tagged:
            self._refuse(node, "tags (!) are not accepted")
        return node

    def _refuse(self, node: yaml.Node, what: str) -> yaml.Node:
        self.refused[id(node)] = f"{what}; write the value out, or in quotes if it is text"
        return node


def _refused_at(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, problem, event.start_mark)


def _open(data: bytes, file: str) -> _Loader:
    try:
        return _Loader(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        mark = _mark_of_offset(data[: error.start].decode("utf-8-sig", "replace"))
        raise ConfigError([Fault.at(file, mark, (), "this is not UTF-8; save the file as UTF-8")]) from None
    except yaml.reader.ReaderError as error:
        mark = _mark_of_offset(data.decode("utf-8-sig")[: error.position])
        raise ConfigError([Fault.at(file, mark, (), "a control character, which YAML does not allow")]) from None


def mark_of(mark: yaml.Mark) -> Mark:
    """PyYAML's place, counted from 0, as ours, counted from 1."""
    return Mark(mark.line + 1, mark.column + 1)


def _mark_of_offset(before: str) -> Mark:
    return Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "not understood"
    if r"'\t'" in problem:
        return "not valid YAML: a tab stands here; indent with spaces"
    remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in problem), None)
    words = _without_text(problem)
    if error.context:
        words += " " + _without_text(error.context)
    if error.context_mark and error.context_mark.line != getattr(error.problem_mark, "line", None):
        words += f" that began in line {error.context_mark.line + 1}"
    return f"not valid YAML: {words}" + (f"; {remedy}" if remedy else "")


def _without_text(problem: str) -> str:
    return _QUOTED.sub(lambda match: match[0] if _HARMLESS.fullmatch(match[0]) else "this", problem)
