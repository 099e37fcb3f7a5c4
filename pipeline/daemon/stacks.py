# SPDX-License-Identifier: Apache-2.0
"""SIGUSR1: the stacks of all threads on standard error, to see what hangs."""

from __future__ import annotations

import faulthandler
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger("pipeline")


@contextmanager
def told_on_a_signal() -> Iterator[None]:
    """For as long as the block lasts. In the main thread."""
    previous = signal.signal(signal.SIGUSR1, _name_threads)
    if sys.__stderr__ is not None:  # a program without a terminal may have none
        faulthandler.register(signal.SIGUSR1, sys.__stderr__, chain=True)  # the stacks, even if this thread hangs
    try:
        yield
    finally:
        faulthandler.unregister(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, previous)


def _name_threads(number: int, frame: FrameType | None) -> None:
    """The stacks are told by number only."""
    for thread in threading.enumerate():
        log.info("thread 0x%016x is %s", thread.ident or 0, thread.name)
