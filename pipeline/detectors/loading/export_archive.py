# SPDX-License-Identifier: Apache-2.0
"""A static look into a torch.export archive (.pt2): refuses what torch would unpickle or evaluate when it is loaded."""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.detectors.loading.file_access import FILE_OPERATORS
from pipeline.errors import ModelLoadError

_LONGEST_JSON = 128 << 20
_OPERATOR = re.compile(r"torch\.ops\.([A-Za-z]\w*)\.([A-Za-z_]\w*)(?:\.\w+)?")
# What else the nodes of a graph call: arithmetic on sizes.
_ARITHMETIC = re.compile(r"(?:math\.[a-z]\w*|torch\.(?:sym_|_sym_)\w+)")
# fmt: off
_OF_OPERATOR = frozenset({
    "abs", "add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "inv", "invert", "le", "lshift", "lt", "mod", "mul",
    "ne", "neg", "not_", "or_", "pos", "pow", "rshift", "sub", "truediv", "xor",
})
_OF_TENSORS = frozenset({
    "size", "stride", "storage_offset", "shape", "dtype", "device", "ndim", "dim", "requires_grad", "item", "type",
    "index",
})
_FUNCTIONS = frozenset({"abs", "bool", "float", "int", "len", "max", "min", "round", "sum"})
_ALLOWED = (
    ast.Expression, ast.Name, ast.Attribute, ast.Constant, ast.Call, ast.keyword, ast.expr_context, ast.operator,
    ast.unaryop, ast.boolop, ast.cmpop, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Subscript,
    ast.Slice, ast.Tuple, ast.List,
)
# fmt: on
_TEXT = re.compile(r"[\w .\[\]]*")


def read_export(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str) -> frozenset[str]:
    """The operators outside PyTorch's own namespace that the program calls, such as ``torchvision::nms``.

    torch.export.load unpickles some members, and evaluates texts as Python: sizes, guards and names. Files that
    torch.export.save writes for detectors need none of the former, and only arithmetic in the latter.

    Args:
        archive: an open archive.
        members: those that torch reads (:func:`pipeline.detectors.loading.members.read_by_torch`).
        name: how the messages call it.

    Raises:
        ModelLoadError: it holds anything else.
    """
    programs = [inner for inner in members if inner.startswith("models/") and inner.endswith(".json")]
    if programs != ["models/model.json"]:
        raise _refused(name, f"{len(programs)} programs; one, named model, was expected")
    operators: set[str] = set()
    for inner, info in members.items():
        if inner.startswith("data/") and inner.endswith(".pt") and not inner.startswith("data/sample_inputs/"):
            raise _refused(name, f"pickled weights ({inner}); export it again with this version of torch")
        if inner.endswith("_config.json") and inner.startswith(("data/weights/", "data/constants/")):
            for entry in _parsed(archive, info, name)["config"].values():
                if not isinstance(entry, dict) or _pickled(entry):
                    raise _refused(name, f"a pickled object in {inner}; export the model with plain tensors only")
    try:
        _parsed(archive, members["models/model.json"], name, _looking(operators))
    except _Suspicious as exc:
        raise _refused(name, str(exc)) from exc
    return frozenset(operator for operator in operators if not operator.startswith(("prim::", "aten::")))


class _Suspicious(Exception):
    """Something that no exported detector needs."""


def _pickled(entry: dict[str, Any]) -> bool:
    return bool(entry.get("use_pickle")) or "obj" in str(entry.get("path_name"))


def _parsed(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, hook: Callable[[dict[str, Any]], Any] | None = None
) -> dict[str, Any]:
    if info.file_size > _LONGEST_JSON:
        raise _refused(name, f"{info.filename} of {info.file_size} bytes; this is not a detector")
    try:
        value = json.loads(archive.read(info), object_hook=hook)
        if isinstance(value, dict) and (hook is not None or isinstance(value["config"], dict)):
            return value
    except (ValueError, KeyError, RecursionError) as exc:
        raise ModelLoadError(f"{name}: its description of the program is damaged; export it again") from exc
    raise ModelLoadError(f"{name}: its description of the program is damaged; export it again")


def _looking(operators: set[str]) -> Callable[[dict[str, Any]], Any]:
    """A hook that sees every JSON object, and objects to those that torch would make arbitrary Python of."""

    def look(value: dict[str, Any]) -> dict[str, Any]:
        if "inputs" in value and "target" in value:
            _operator(value["target"], operators)
        if "as_operator" in value:
            _operator(value["as_operator"], operators)
        if "expr_str" in value:
            _expression(value["expr_str"], frozenset())
        for guard in value.get("guards_code") or ():
            _expression(guard, _OF_TENSORS)
        for word in value.get("forward_arg_names") or ():
            if not isinstance(word, str) or not word.isidentifier():
                raise _Suspicious(f"an input that is called {word!r:.60}")
        for key in ("in_spec", "out_spec"):
            if isinstance(value.get(key), str):
                _names(value[key])
        return value

    return look


def _operator(target: object, operators: set[str]) -> None:
    text = str(target)
    found = _OPERATOR.fullmatch(text)
    if found and "__" not in text:
        operator = f"{found[1]}::{found[2]}"
        if found[2] in FILE_OPERATORS:
            raise _Suspicious(f"it calls {operator}, which reads and writes files on this machine")
        operators.add(operator)
    elif text.removeprefix("_operator.") not in _OF_OPERATOR and not _ARITHMETIC.fullmatch(text):
        raise _Suspicious(f"it calls {text[:60]!r}, which is not an operator")


def _expression(text: object, attributes: frozenset[str]) -> None:
    """Arithmetic over sizes: calls of SymPy's classes, of ``attributes`` and of a few functions."""
    try:
        tree = ast.parse(str(text).strip() or "0", mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise _Suspicious(f"a size that is not an expression: {str(text)[:60]!r}") from exc
    if not all(isinstance(node, _ALLOWED) and _harmless(node, attributes) for node in ast.walk(tree)):
        raise _Suspicious(f"an expression that is not arithmetic: {str(text)[:60]!r}")


def _harmless(node: ast.AST, attributes: frozenset[str]) -> bool:
    match node:
        case ast.Name(id=word):
            return "__" not in word
        case ast.Attribute(attr=word, value=ast.Name(id="math")):
            return word.isidentifier() and "__" not in word
        case ast.Attribute(attr=word, value=ast.Name(id="torch")):
            return re.fullmatch(r"_?sym_\w+|float\d+|u?int\d+|bfloat16|bool|device", word) is not None
        case ast.Attribute(attr=word):
            return word in attributes
        case ast.Constant(value=str(word)):
            return _TEXT.fullmatch(word) is not None and "__" not in word
        case ast.Call(func=ast.Name(id=word)):
            return word[0].isupper() or word in _FUNCTIONS
        case ast.Call(func=function):
            return isinstance(function, ast.Attribute)
    return True


def _names(spec: str) -> None:
    """Keys in the structure of inputs and outputs become names in generated Python."""
    try:
        contexts = list(_contexts(json.loads(spec)))
    except (ValueError, RecursionError) as exc:
        raise _Suspicious("a structure of inputs or outputs that is damaged") from exc
    for context in contexts:
        if not re.fullmatch(r'[\w\[\]{}", .:-]*', context):
            raise _Suspicious(f"inputs or outputs that are called {context[:60]!r}")


def _contexts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("context"), str):
            yield value["context"]
        for child in value.get("children_spec") or ():
            yield from _contexts(child)
    elif isinstance(value, list):
        for child in value:
            yield from _contexts(child)


def _refused(name: str, why: str) -> ModelLoadError:
    return ModelLoadError(f"{name}: this torch.export archive is refused: {why}")
