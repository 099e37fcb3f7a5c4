# SPDX-License-Identifier: Apache-2.0
"""Reads pickles as data: follows their opcodes and builds descriptions of objects. Nothing is imported or called."""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MOST_OPCODES = 500_000
"""A scripted detector has some ten thousand."""


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A class or function that the pickle names.

    Attributes:
        module, name: as in ``from module import name``.
    """

    module: str
    name: str


@dataclass(slots=True, eq=False)
class Object:
    """What a call would make.

    Attributes:
        maker: a :class:`Global`, or anything else that the pickle would call.
        arguments: of the call.
        state: what would be set on the object afterwards, or None.
    """

    maker: Any
    arguments: Any
    state: Any = None


@dataclass(slots=True, eq=False)
class Pairs:
    """A dict; its keys may be anything.

    Attributes:
        items: (key, value) in the order in which they were set.
    """

    items: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A reference to data outside the pickle, such as the storage of a tensor.

    Attributes:
        key: how the pickle calls it.
    """

    key: Any


class Walk:
    """One reading of one pickle.

    Attributes:
        root: what the pickle describes.
        globals: everything that it names, without repetition, in order.
    """

    def __init__(self, data: bytes) -> None:
        """Read; raises ValueError where ``data`` is not a whole pickle, or takes more than ``MOST_OPCODES``."""
        self.globals: dict[tuple[str, str], Global] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[Any, Any] = {}
        try:
            self.root = self._run(data)
        except (IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
            raise ValueError(f"the pickle is damaged: {type(exc).__name__}") from exc

    def _run(self, data: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
            if count >= MOST_OPCODES:
                raise ValueError(f"the pickle has more than {MOST_OPCODES:,} opcodes")
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _FIXED:
            stack.append(_FIXED[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in _BELOW:
            self._gather(name)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name in _SHORT:
            count = _SHORT[name]
            stack[-count:] = [tuple(stack[-count:])] if len(stack) >= count else [stack[count]]
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "POP":
            stack.pop()
        else:
            self._make(name, argument)

    def _gather(self, name: str) -> None:
        """The opcodes that take everything above the last mark."""
        start = self._marks.pop()
        if start > len(self._stack):
            raise IndexError("a mark above the stack")
        values = self._stack[start:]
        del self._stack[start:]
        if name == "POP_MARK":
            return
        if name in ("TUPLE", "FROZENSET", "LIST"):
            self._stack.append(values if name == "LIST" else tuple(values))
        elif name == "DICT":
            self._stack.append(Pairs(_paired(values)))
        elif name == "OBJ":
            self._stack.append(Object(values[0], tuple(values[1:])))
        elif name in ("APPENDS", "ADDITEMS"):
            _fill(self._stack[-1], values)
        else:
            _set(self._stack[-1], _paired(values))

    def _make(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "GLOBAL":
            module, _, attribute = argument.partition(" ")
            stack.append(self._named(module, attribute))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(self._named(str(module)[:500], str(attribute)[:500]))
        elif name == "INST":
            module, _, attribute = argument.partition(" ")
            start = self._marks.pop()
            values = tuple(stack[start:])
            del stack[start:]
            stack.append(Object(self._named(module, attribute), values))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, maker = stack.pop(), stack.pop()
            stack.append(Object(maker, arguments))
        elif name == "NEWOBJ_EX":
            named, arguments, maker = stack.pop(), stack.pop(), stack.pop()
            stack.append(Object(maker, (arguments, named)))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Object):
                stack[-1].state = state
        elif name == "BINPERSID":
            stack.append(Stored(stack.pop()))
        elif name == "PERSID":
            stack.append(Stored(argument))
        elif name == "APPEND":
            value = stack.pop()
            _fill(stack[-1], [value])
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _set(stack[-1], [(key, value)])
        elif name in ("EXT1", "EXT2", "EXT4", "NEXT_BUFFER"):
            stack.append(None)
        # PROTO, FRAME and READONLY_BUFFER change nothing that is described here.

    def _named(self, module: str, attribute: str) -> Global:
        return self.globals.setdefault((module, attribute), Global(module, attribute))


_LITERALS = frozenset(
    """INT LONG BININT BININT1 BININT2 LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8""".split()  # noqa: SIM905 - legible
)
_FIXED: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Any] = {"EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_DICT": Pairs}
_SHORT = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_BELOW = frozenset(["TUPLE", "FROZENSET", "LIST", "DICT", "OBJ", "APPENDS", "ADDITEMS", "SETITEMS", "POP_MARK"])


def members_of(value: Any) -> Iterator[tuple[str, Any]]:
    """What a described value holds directly, by a name fit for a path."""
    if isinstance(value, list | tuple):
        yield from ((str(index), inner) for index, inner in enumerate(value))
    elif isinstance(value, Pairs):
        yield from ((key[:100] if isinstance(key, str) else "?", inner) for key, inner in value.items)
    elif isinstance(value, Object):
        yield "", value.arguments
        yield "", value.state


def _paired(values: list[Any]) -> list[tuple[Any, Any]]:
    if len(values) % 2:
        raise ValueError("the pickle is damaged: a key without a value")
    return list(zip(values[::2], values[1::2], strict=True))


def _fill(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Object):
        raise TypeError("it appends to something that is not a list")


def _set(target: Any, pairs: list[tuple[Any, Any]]) -> None:
    if isinstance(target, Pairs):
        target.items.extend(pairs)
    elif not isinstance(target, Object):  # an OrderedDict and its like are filled after they were made
        raise TypeError("it sets items of something that is not a dict")
    elif isinstance(target.state, Pairs):
        target.state.items.extend(pairs)
    else:
        target.state = Pairs(pairs)
