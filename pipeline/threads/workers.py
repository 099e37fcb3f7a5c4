# SPDX-License-Identifier: Apache-2.0
"""Named threads: who owns them, what the kernel calls them, and which of them go first."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pipeline.timing import now_ns

FIRST: Final = 10
"""Steps of the nice value by which a thread goes before the others; ten are nine times the weight of a thread."""


def show_name() -> None:
    """Let the kernel know the name of this thread, of which it keeps 15 bytes: ``top -H`` and ``ps -L`` show it."""
    with suppress(OSError), open("/proc/thread-self/comm", "wb") as comm:  # Linux only, and not in every sandbox
        comm.write(threading.current_thread().name.encode())


def go_first() -> None:
    """Let this thread run before the others where it wants a core, if the system allows that; else it stays as it is.

    For a thread that wants little and that somebody waits for. On Linux each thread has a nice value of its own; to
    lower it takes ``CAP_SYS_NICE`` or a resource limit (``LimitNICE=`` of systemd, ``--ulimit nice=`` of Docker). To
    raise everybody else's needs no right, but then any other program on the machine would go before all of them.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            # Of the main thread: whoever calls this may have been started by a thread that goes first already.
            usual = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), usual - FIRST)


class WorkerGroup:
    """Owns named threads. None outlives the ``with``, but those that are stuck in native code after the deadline."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self, name: str, body: Callable[[], None]) -> threading.Thread:
        """Run ``body`` in a new daemon thread called ``name``; raises RuntimeError where the system gives no more."""

        def run() -> None:
            show_name()
            body()

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:  # so that whoever joins meanwhile waits for this one, too
            thread.start()
            self._threads = [*(known for known in self._threads if known.is_alive()), thread]
        return thread

    def adopt(self, other: WorkerGroup) -> None:
        """Own the threads of another group from now on."""
        with other._lock:
            threads, other._threads = other._threads, []
        with self._lock:
            self._threads += threads

    def alive(self) -> list[str]:
        """Names of the threads that still run."""
        with self._lock:
            return [thread.name for thread in self._threads if thread.is_alive()]

    def join(self, timeout_s: float | None = None) -> list[str]:
        """Wait for all threads, also those that are started meanwhile; returns the names of those still running."""
        deadline = None if timeout_s is None else now_ns() + int(timeout_s * 1e9)
        while True:
            with self._lock:
                running = [thread for thread in self._threads if thread.is_alive()]
            if not running:
                return []
            left = None if deadline is None else (deadline - now_ns()) / 1e9
            if left is not None and left <= 0:
                return [thread.name for thread in running]
            # A bounded wait, so that the main thread keeps handling signals.
            running[0].join(0.2 if left is None else min(left, 0.2))
