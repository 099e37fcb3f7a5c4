# SPDX-License-Identifier: Apache-2.0
"""What a benchmark is expected to find: ``--expect p99<=100``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_OPERATORS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}


def unmet(figures: Mapping[str, Any], wanted: str, names: Iterable[str]) -> str | None:
    """What is wrong with a figure, by ``name<=number`` or ``name>=number``; None where nothing is."""
    match = re.fullmatch(r"([\w.]+)\s*(<=|>=)\s*(-?[\d.]+)", wanted)
    names = list(names)
    if match is None or match[1] not in names:
        raise SystemExit(f"--expect {wanted}: expected NAME<=NUMBER or NAME>=NUMBER, of {', '.join(names)}")
    value = figures.get(match[1])
    if value is not None and _OPERATORS[match[2]](value, float(match[3])):
        return None
    return f"{wanted}: {'not measured' if value is None else f'{value:.4g}'}"
