# SPDX-License-Identifier: Apache-2.0
"""Exceptions that nobody caught, of threads and finalisers: into the log, and not past it."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("pipeline")


@contextmanager
def strays_logged() -> Iterator[None]:
    """For as long as the block lasts: Python would print their tracebacks on stderr, whatever form the log has."""

    def of_a_thread(stray: threading.ExceptHookArgs) -> None:
        if stray.exc_value is not None and not isinstance(stray.exc_value, SystemExit):
            name = stray.thread.name if stray.thread is not None else "?"
            _say(f"thread {name}", stray.exc_value)

    def of_a_finaliser(stray: sys.UnraisableHookArgs) -> None:
        if stray.exc_value is not None:
            _say(f"{stray.err_msg or 'ignored'}, {stray.object!r}", stray.exc_value)

    before = threading.excepthook, sys.unraisablehook
    threading.excepthook, sys.unraisablehook = of_a_thread, of_a_finaliser
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = before


def _say(where: str, error: BaseException) -> None:
    log.error("%s: %s: %s", where, type(error).__name__, error, exc_info=error)
