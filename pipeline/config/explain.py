# SPDX-License-Identifier: Apache-2.0
"""pydantic's errors in words of the house: what was found, what was expected, and never the value itself."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.config import Config
from pipeline.config.faults import KeyPath, shown_path
from pipeline.config.wording import kind_of, nearest, one_of, synonym

_NUMBER_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a mapping",
    "dict_type": "a mapping",
}


class Explained(NamedTuple):
    """One error.

    Attributes:
        path: from the section on.
        message: what was wrong.
        at_key: the key is to be pointed at, not its value.
        hidden: the last key of ``path`` is not to be shown.
        across: it is about several keys together.
    """

    path: KeyPath
    message: str
    at_key: bool = False
    hidden: bool = False
    across: bool = False


def explain(error: ValidationError, section: type[BaseModel]) -> Iterator[Explained]:
    """Every error of validating ``section``, in the order in which pydantic found them."""
    errors = error.errors(include_url=False)
    misspelt = {_meant(tuple(each["loc"]), section) for each in errors if each["type"] == "extra_forbidden"}
    for details in errors:
        path: KeyPath = tuple(details["loc"])
        kind = details["type"]
        if kind == "extra_forbidden":
            yield unknown_key(path, details["input"], _section_at(section, path[:-1]))
        elif kind == "missing" and isinstance(path[-1], int):
            yield Explained(path[:-1], f"the list is too short: it has {path[-1]}, one more is needed at least")
        elif kind == "missing" and path not in misspelt:
            yield Explained(path, "this key is missing")
        elif kind == "refused":
            key = details["ctx"]["key"]
            yield Explained(path if key is None else (*path, key), details["msg"], across=key is not None)
        elif kind != "missing":
            yield Explained(path, _message(details))


def unknown_key(path: KeyPath, value: Any, section: type[BaseModel]) -> Explained:
    """``unknown key; did you mean 'source'?``, or where the key belongs, or what there is.

    Args:
        path: of the key.
        value: what it has as value.
        section: the section that it stands in.
    """
    key = str(path[-1])
    if value is None or shown_path((key,)) == ("?",):
        # In {password: half, other half} the other half is a key without a value.
        message = "unknown key, or a piece of a value: a value that holds a comma or a colon needs quotes"
        return Explained(path, message, at_key=True, hidden=True)
    near = nearest(key, section.model_fields)
    elsewhere = [place for model, place in _places() if model is not section and key in model.model_fields]
    if elsewhere and synonym(key, section.model_fields) is None:
        return Explained(path, f"unknown key here; it belongs in {one_of(dict.fromkeys(elsewhere))}", at_key=True)
    remedy = f"did you mean '{near}'?" if near else f"expected {one_of(section.model_fields)}"
    return Explained(path, f"unknown key; {remedy}", at_key=True)


def _meant(path: KeyPath, section: type[BaseModel]) -> KeyPath:
    """The path of the key that was probably meant by an unknown one."""
    near = nearest(str(path[-1]), _section_at(section, path[:-1]).model_fields)
    return path if near is None else (*path[:-1], near)


def _message(details: ErrorDetails) -> str:
    kind, found = details["type"], details["input"]
    context = details.get("ctx", {})
    if kind in _NUMBER_BOUNDS:
        name, words = _NUMBER_BOUNDS[kind]
        return f"expected a number {words} {context[name]:g}, found {found:.12g}"
    if kind == "literal_error":
        valid = [part.strip("'") for part in context["expected"].replace(" or ", ", ").split(", ")]
        near = nearest(found, valid) if isinstance(found, str) else None
        what = "" if isinstance(found, str) else f", found {kind_of(found)}"
        return f"expected {one_of(valid)}{what}" + (f"; did you mean '{near}'?" if near else "")
    if kind in _KINDS:
        if kind == "int_type" and isinstance(found, float):
            return f"expected a whole number, found {found:.12g}"
        remedy = ""
        if kind == "string_type" and isinstance(found, (bool, int, float)):
            remedy = "; put it in quotes"
        elif kind in ("int_type", "float_type") and isinstance(found, str) and _is_number(found):
            remedy = "; a number stands without quotes"
        return f"expected {_KINDS[kind]}, found {kind_of(found)}{remedy}"
    if kind in ("too_short", "too_long"):
        bound = context.get("min_length", context.get("max_length"))
        return f"expected a list of {'at least' if kind == 'too_short' else 'at most'} {bound}, found {len(found)}"
    if kind == "string_too_short":
        return "expected text, found an empty one"
    if kind == "finite_number":
        return "expected a finite number"
    return f"not valid here ({kind.replace('_', ' ')})"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _section_at(section: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    for part in path:
        field = section.model_fields.get(str(part))
        inner = None if field is None else next(_models_in(field.annotation), None)
        section = inner or section
    return section


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _places() -> Iterator[tuple[type[BaseModel], str]]:
    for name, field in Config.model_fields.items():
        for model in _models_in(field.annotation):
            yield model, f"an entry of '{name}'" if name in ("streams", "sinks") else f"'{name}'"
