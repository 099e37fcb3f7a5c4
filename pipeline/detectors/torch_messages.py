# SPDX-License-Identifier: Apache-2.0
"""Torch's many-line errors as one line, and silence about a deprecation that the user cannot do anything about."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator

import torch

_LONGEST = 240


def one_line(error: BaseException) -> str:
    """The line of an error's message that says what happened.

    An error out of the TorchScript interpreter begins with a listing of the model's code: there it is the last line.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = lines[-1] if len(lines) > 1 and "TorchScript" in lines[0] + lines[1] else lines[0]
    line = line.removeprefix("RuntimeError: ").removeprefix("builtins.")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's warnings that TorchScript is deprecated, and remarks that models make when first run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def hush_int8() -> None:
    """Let torch say now, into silence, what it says once per process: that its INT8 tensors are deprecated.

    Said first inside a TorchScript program, it would go past Python's warnings straight to the terminal.
    """
    with quiet():
        torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)
