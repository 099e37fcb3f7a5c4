# SPDX-License-Identifier: Apache-2.0
"""Processes that do not outlive the one that started them, also when that is killed and can tidy nothing up."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PRCTL: Final = ctypes.CDLL(None).prctl if sys.platform == "linux" else None  # looked up before any fork


def die_with(parent: int) -> None:
    """Have this process killed with the thread of ``parent`` that started it; exit at once where it is gone already.

    A program that is executed later inherits it, its own children do not. Only Linux has it.
    """
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def no_orphan() -> Callable[[], None]:
    """``preexec_fn`` of a :class:`subprocess.Popen` whose process is to die with the thread that starts it."""
    return partial(die_with, os.getpid())
