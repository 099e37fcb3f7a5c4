# SPDX-License-Identifier: Apache-2.0
"""A family of detectors before one of its files has run: how it is fed by default, and how its adapter is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.detectors.adapter import Adapter
from pipeline.detectors.preprocessing import Preprocessing
from pipeline.frame import InputSpec

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """One entry of the registry.

    Attributes:
        name: as in ``model.adapter``.
        preprocessing: what its networks want, unless the file or the configuration say otherwise.
        make: the adapter for one model, from the outputs of a first run, the spec of that run's input and the options
            of ``model.adapter_options``. Raises InferenceError for outputs of another shape, ValueError for options.
        takes_list: ``forward`` takes a list of pictures; None: this family does not mind.
    """

    name: str
    preprocessing: Preprocessing
    make: Callable[[Any, InputSpec, Options], Adapter]
    takes_list: bool | None = False


def only(options: Options, *known: str) -> None:
    """Raise ValueError if there are options that a family does not know."""
    unknown = [key for key in options if key not in known]
    if unknown:
        expected = f"it takes {', '.join(known)}" if known else "it takes none"
        raise ValueError(f"adapter_options: {', '.join(unknown)}: there is no such option; {expected}")


def whole(options: Options, key: str, default: int, low: int, high: int) -> int:
    """An option that is a whole number from ``low`` to ``high``; raises ValueError."""
    value = options.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"adapter_options.{key}: {value!r}; a whole number from {low} to {high} was expected")
    return value


def flag(options: Options, key: str) -> bool | None:
    """An option that is true or false, None where it is not given; raises ValueError."""
    value = options.get(key)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"adapter_options.{key}: {value!r}; true or false was expected")
    return value


def lengths(options: Options, key: str) -> tuple[float, float] | None:
    """An option that is a width and a height in pixels, or one number for both; raises ValueError."""
    value = options.get(key)
    if value is None:
        return None
    sides = list(value) if isinstance(value, list | tuple) else [value, value]
    good = len(sides) == 2 and all(isinstance(side, int | float) and not isinstance(side, bool) for side in sides)
    if not good or not all(math.isfinite(side) and side > 0 for side in sides):
        raise ValueError(f"adapter_options.{key}: {value!r}; [width, height] in pixels was expected, both above 0")
    return float(sides[0]), float(sides[1])
