# SPDX-License-Identifier: Apache-2.0
"""What waits to be written to a disk that may be slow. Whoever adds to it is never held up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple


class Job(NamedTuple):
    """Something to be written.

    Attributes:
        run: writes it.
        size: bytes that it holds until then.
        packets: how many packets are lost where it is not run.
    """

    run: Callable[[], None]
    size: int = 0
    packets: int = 0


class Backlog:
    """Jobs for one thread, bounded by their number and by the bytes that they hold.

    Args:
        most_bytes: what all jobs may hold together.
        most_jobs: how many may wait.
    """

    def __init__(self, most_bytes: int, most_jobs: int) -> None:
        self._most_bytes = most_bytes
        self._most_jobs = most_jobs
        self._jobs: deque[Job] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, job: Job) -> bool:
        """Add a job; False where there is no room, or it is closed."""
        with self._changed:
            if self._closed or len(self._jobs) >= self._most_jobs or self._bytes + job.size > self._most_bytes:
                return False
            self._jobs.append(job)
            self._bytes += job.size
            self._changed.notify()
            return True

    def take(self, timeout_s: float) -> list[Job] | None:
        """All that waits; an empty list after ``timeout_s`` without anything, None once it is closed and empty."""
        with self._changed:
            if not self._jobs and not self._closed:
                self._changed.wait(timeout_s)
            if not self._jobs and self._closed:
                return None
            jobs = list(self._jobs)
            self._jobs.clear()
            self._bytes = 0
            return jobs

    def close(self) -> None:
        """Nothing more is added; what waits is still taken."""
        with self._changed:
            self._closed = True
            self._changed.notify()
