# SPDX-License-Identifier: Apache-2.0
"""What a command of some seconds or minutes is at: on a terminal a line that the next one replaces."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack


def steps(
    options: argparse.Namespace, stack: ExitStack, first: str, *, everywhere: bool = False
) -> Callable[[str], None]:
    """A function that shows a line, until ``stack`` ends; without a terminal on stderr it goes to the debug log.

    Args:
        options: ``--quiet`` shows nothing.
        stack: of the command.
        first: what is shown at once.
        everywhere: without a terminal as well, a line of stderr for each phase: what comes before ``: 2 of 5``.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    watched = sys.stderr.isatty() and not console.is_dumb_terminal
    if everywhere and not options.quiet and not watched:
        phases = _Phases()
        phases.tell(first)
        return phases.tell
    if options.quiet or not watched:
        return logging.getLogger(__name__).debug
    return stack.enter_context(console.status(first)).update


class _Phases:
    """Says what is new in a line of its own; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def tell(self, text: str) -> None:
        phase = text.split(": ", 1)[0] if " of " in text else text
        with self._lock:
            if phase not in self._told:
                self._told.add(phase)
                print(f"pipeline: {phase}", file=sys.stderr, flush=True)
