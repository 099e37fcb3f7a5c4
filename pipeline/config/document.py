# SPDX-License-Identifier: Apache-2.0
"""YAML to plain data that remembers its lines; what YAML 1.1 would turn into something unexpected is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.config.faults import NOWHERE, Fault, KeyPath, Mark
from pipeline.config.nodes import TAG, compose, mark_of

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})?\.[0-9]*([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file.

    Attributes:
        file: how the file is called in messages.
        data: text, numbers, truth values, None, tuples and dicts with text keys.
        keys: where the key with this path stands.
        values: where the value with this path begins.
        faults: what was refused; in ``data`` those values are left out, or None in a list.
    """

    file: str
    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    values: dict[KeyPath, Mark] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def mark(self, path: KeyPath, *, of_key: bool = False) -> Mark:
        """Where the value (or key) with this path stands, or the nearest thing above it that is in the file."""
        marks = self.keys if of_key else self.values
        for length in range(len(path), -1, -1):
            mark = marks.get(path[:length]) or self.values.get(path[:length])
            if mark is not None:
                return mark
        return NOWHERE


def read_document(data: bytes, file: str) -> Document:
    """Parse one YAML document.

    Raises:
        ConfigError: too large, not UTF-8, or not YAML: there is nothing to go on with. All else is listed in
            ``Document.faults``.
    """
    root, refused = compose(data, file)
    document = Document(file)
    document.values[()] = Mark(1, 1) if root is None else mark_of(root.start_mark)
    if root is not None:
        value = _Builder(document, refused).build(root, ())
        if isinstance(value, dict):
            document.data.update(value)
        elif value is not None and not document.faults:
            document.faults.append(
                Fault.at(file, mark_of(root.start_mark), (), "expected keys such as 'streams:' here")
            )
    return document


class _Builder:
    """Nodes to values; notes marks and faults in the document."""

    def __init__(self, document: Document, refused: dict[int, str]) -> None:
        self._document = document
        self._refused = refused

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        """The value of ``node``; a refused one is noted and becomes ``_REFUSED``."""
        self._document.values.setdefault(path, mark_of(node.start_mark))
        if id(node) in self._refused:
            return self._fault(node, path, self._refused[id(node)])
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            items = (self.build(item, (*path, index)) for index, item in enumerate(node.value))
            return tuple(None if item is _REFUSED else item for item in items)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            below = (*path, key)
            if below in self._document.keys:
                first = self._document.keys[below].line
                # A key without a value may be half of a secret, see shown_path.
                shown = "?" if value_node.start_mark.index == value_node.end_mark.index else key
                self._fault(key_node, (*path, shown), f"this key was already given in line {first}")
                continue
            self._document.keys[below] = mark_of(key_node.start_mark)
            value = self.build(value_node, below)
            if value is not _REFUSED:
                built[key] = value
        return built

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if id(node) in self._refused:
            self._fault(node, path, self._refused[id(node)])
        elif not isinstance(node, yaml.ScalarNode):
            self._fault(node, path, "a key must be text, not a list or a mapping")
        elif node.tag == TAG + "merge":
            self._fault(node, path, "merge keys (<<) are not accepted; what all streams share goes under 'defaults'")
        elif node.tag == TAG + "bool":
            self._fault(node, path, f"the key {node.value} is read as a truth value by YAML; put it in quotes")
        elif node.tag != TAG + "str":
            self._fault(node, path, "a key must be text; put it in quotes")
        elif _unprintable(node.value):
            self._fault(node, path, "a key with a control character")
        else:
            return str(node.value)
        return None

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        text: str = node.value
        match node.tag.removeprefix(TAG):
            case "null":
                return None
            case "bool":
                return text.lower() in ("yes", "true", "on")
            case "int" if _INTEGER.fullmatch(text):
                return int(text)
            case "float" if _DECIMAL.fullmatch(text):
                return float(text)
            case "int" | "float":
                return self._fault(
                    node,
                    path,
                    "YAML reads this as a number in an unusual notation (octal, with colons or underscores, infinite, "
                    "very long); write a plain decimal number, or put text in quotes",
                )
        if _unprintable(text):
            return self._fault(node, path, "text with a line break or another control character; one line was expected")
        return text

    def _fault(self, node: yaml.Node, path: KeyPath, message: str) -> Any:
        self._document.faults.append(Fault.at(self._document.file, mark_of(node.start_mark), path, message))
        return _REFUSED


_REFUSED = object()


def _unprintable(text: str) -> bool:
    return any(
        character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff" for character in text
    )
