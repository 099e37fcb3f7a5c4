# SPDX-License-Identifier: Apache-2.0
"""What waits to be written to a disk that may be slow. Whoever adds to it is never held up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

HANDFUL: Final = 256
"""Jobs between two looks at the disk where there is always another one."""


class Job(NamedTuple):
    """Something to be written.

    Attributes:
        run: writes it.
        size: bytes that it holds until then.
        packets: how many packets are lost where it is not run.
        lines: how many lines of a log are, but for those of packets.
    """

    run: Callable[[], None]
    size: int = 0
    packets: int = 0
    lines: int = 0


class Backlog:
    """Jobs for one thread, bounded by their number and by the bytes that they hold until they have been run.

    Args:
        most_bytes: what all jobs may hold together.
        most_jobs: how many there may be.
    """

    def __init__(self, most_bytes: int, most_jobs: int) -> None:
        self._most_bytes = most_bytes
        self._most_jobs = most_jobs
        self._jobs: deque[Job] = deque()  # the first one may be under way
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

    def take(self, timeout_s: float) -> Iterator[Job]:
        """What is there, one after the other, at most a handful; nothing where none came within ``timeout_s``.

        A job takes its room until the next one is asked for.
        """
        with self._changed:
            if not self._jobs and not self._closed:
                self._changed.wait(timeout_s)
        for _ in range(HANDFUL):
            with self._changed:
                if not self._jobs:
                    return
                job = self._jobs[0]
            yield job
            with self._changed:
                if self._jobs:  # it was not given up meanwhile
                    self._jobs.popleft()
                    self._bytes -= job.size

    @property
    def over(self) -> bool:
        """It is closed, and empty."""
        with self._changed:
            return self._closed and not self._jobs

    def close(self) -> None:
        """Nothing more is added; what waits is still taken."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def give_up(self) -> list[Job]:
        """Close it; what waited, and what is under way, is nobody's any more."""
        with self._changed:
            self._closed = True
            jobs = list(self._jobs)
            self._jobs.clear()
            self._bytes = 0
            self._changed.notify()
            return jobs
