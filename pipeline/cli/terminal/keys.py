# SPDX-License-Identifier: Apache-2.0
"""Single keys from a terminal, waited for with a limit."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from types import TracebackType


class Keys:
    """While the block lasts, keys come one by one and are not shown; without a terminal none ever comes."""

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._before: list[object] | None = None

    def __enter__(self) -> Keys:
        if self._descriptor is not None:
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None and self._before is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    def wait(self, seconds: float) -> str:
        """The next key, or "" when none came in time. An arrow key or the like is one key of several characters."""
        waited_for = [] if self._descriptor is None else [self._descriptor]
        ready, _, _ = select.select(waited_for, [], [], max(0.0, seconds))
        if not ready or self._descriptor is None:
            return ""
        read = os.read(self._descriptor, 32)
        return read.decode("utf-8", "replace") or "q"  # the terminal is gone: nobody looks any more
