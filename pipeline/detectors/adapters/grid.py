# SPDX-License-Identifier: Apache-2.0
"""The cells of anchor-free heads: one row per cell of every level, level after level, row by row."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from pipeline.frame import FloatArray, InputSpec

LEVELS = ((8, 16, 32), (8, 16, 32, 64))
"""Strides of the levels of nearly all such heads."""


def cells(height: int, width: int, strides: Sequence[int]) -> int:
    """How many cells an input of ``height`` x ``width`` pixels has; partial cells at the borders count."""
    return sum(math.ceil(height / stride) * math.ceil(width / stride) for stride in strides)


def strides_of(rows: int, spec: InputSpec) -> tuple[int, ...] | None:
    """The strides with which an input of ``spec`` has exactly ``rows`` cells, or None."""
    return next((strides for strides in LEVELS if cells(spec.height, spec.width, strides) == rows), None)


@functools.lru_cache(maxsize=32)
def grid(height: int, width: int, strides: tuple[int, ...]) -> FloatArray:
    """(cells, 3) float32: column, row and stride of every cell; not to be written to."""
    levels = []
    for stride in strides:
        rows, columns = math.ceil(height / stride), math.ceil(width / stride)
        y, x = np.mgrid[:rows, :columns].reshape(2, -1)
        levels.append(np.stack((x, y, np.full_like(x, stride)), 1))
    table = np.concatenate(levels).astype(np.float32)
    table.flags.writeable = False
    return table
