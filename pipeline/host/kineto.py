# SPDX-License-Identifier: Apache-2.0
"""Kineto, the library under torch's profiler, writes to the terminal by itself, whatever Python's log says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LEVEL: Final = "KINETO_LOG_LEVEL"


@contextmanager
def silent() -> Iterator[None]:
    """Nothing is written by a profiler that begins within the block.

    The level is read from the environment then; 6 is above all of its messages. What the user has set stays.
    """
    ours = _LEVEL not in os.environ
    if ours:
        os.environ[_LEVEL] = "6"
    try:
        yield
    finally:
        if ours:
            del os.environ[_LEVEL]
