# SPDX-License-Identifier: Apache-2.0
"""What a command of some seconds or minutes is at, as a line on the terminal that the next one replaces."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack


def steps(options: argparse.Namespace, stack: ExitStack, first: str) -> Callable[[str], None]:
    """A function that shows a line, until ``stack`` ends; without a terminal on stderr it goes to the debug log.

    Args:
        options: ``--quiet`` shows nothing.
        stack: of the command.
        first: what is shown at once.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if options.quiet or not sys.stderr.isatty() or console.is_dumb_terminal:
        return logging.getLogger(__name__).debug
    return stack.enter_context(console.status(first)).update
