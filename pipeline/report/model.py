# SPDX-License-Identifier: Apache-2.0
"""The panel about the model: what it is, what it is shown, and what trying it out found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.figures import count, percent
from pipeline.report.markup import facts

_GROUPS = (
    ("input_spec", "What the network is shown"),
    ("tuned", "How it was tuned"),
    ("verdict", "What trying it out found"),
)
_SWAPS = ("swaps", "swaps_by_outcome")
_SIZES = ("input", "size")
_UNLESS_ZERO = ("trim", "nonfinite_rows", "nonfinite_frames")
_WORDS = {
    "ms_per_picture": "ms per picture, by batch",
    "finite": "finite outputs",
    "largest": "largest batch tried",
    "exclusive": "one thread at a time",
    "cached": "known from an earlier run",
    "left_out": "not tried",
}


def model_panel(model: Mapping[str, Any]) -> str:
    """A section of names and values, nothing where no model was loaded; what few look for is behind a click."""
    grouped = {key for key, _ in _GROUPS if isinstance(model.get(key), Mapping)}
    parts = [_rows({key: value for key, value in model.items() if key not in grouped and key not in _SWAPS})]
    parts += [_folded(title, _rows(model[key])) for key, title in _GROUPS if key in grouped and model[key]]
    if swaps := model.get("swaps"):
        rows = facts([(f"swap {one['number']}", _swap(one)) for one in swaps])
        parts.append(f"<h3>Swaps while it ran</h3>{rows}")
    if not any("<dt>" in part for part in parts):
        return ""
    return f'<section><h2>Model</h2><div class="panel model">{"".join(parts)}</div></section>'


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def _swap(one: Mapping[str, Any]) -> str:
    told = f"{one['state']}: {one['from']} to {one['to']}, {one['began']}"
    if compared := one.get("compared"):
        told += f"; {percent(compared['agreement'])} agree on {count(compared['frames'], 'frame')}"
    return f"{told}; {one['reason']}" if one["reason"] else told


def _rows(values: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in values.items() if value or key not in _UNLESS_ZERO}
    return facts([(_WORDS.get(key, key.replace("_", " ")), in_words(value, key)) for key, value in shown.items()])


def in_words(value: Any, key: str = "") -> str:
    """A value of a report as a reader would write it; empty for nothing: ``0, 0, 0``, ``yes``, ``1: 0.4, 2: 0.3``."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float() if key == "finite":
            return "all" if value == 1 else f"{100 * value:.3g} %"
        case float():
            return f"{value:.6g}"
        case [int(height), int(width)] if key in _SIZES:
            return f"{height} x {width} (height x width)"
        case Mapping():
            return ", ".join(f"{name}: {in_words(below)}" for name, below in value.items())
        case list() | tuple():
            return ", ".join(in_words(each) for each in value)
        case _:
            return str(value)
