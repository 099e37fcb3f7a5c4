# SPDX-License-Identifier: Apache-2.0
"""Time and cores of a simulated machine: threads that are ready share the cores evenly."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

Then = Callable[[], None]
"""What happens next."""


class Machine:
    """A clock that only moves to the next event, and cores under processor sharing.

    With ``n`` threads ready each gets ``min(1, cores / n)`` of a core: what a fair scheduler of an operating system
    comes to when its time slices are short against the work. All threads run at one speed, so who has least left is
    known once and for all, and a step costs the logarithm of their number.

    Args:
        cores: may be a fraction: what other programs leave.
    """

    def __init__(self, cores: float) -> None:
        if cores <= 0:
            raise ValueError(f"cores must be positive, not {cores}")
        self.cores = cores
        self.busy_ns = 0.0
        """Core-nanoseconds of work done so far."""
        self._now_ns = 0.0
        self._served = 0.0  # what each thread that was always ready would have got
        self._working: list[tuple[float, int, int, Then]] = []  # ends at, number, threads, what then
        self._ready = 0  # threads
        self._timers: list[tuple[float, int, Then]] = []
        self._numbers = count()

    def now_ns(self) -> int:
        """As :meth:`pipeline.timing.Clock.now_ns`."""
        return round(self._now_ns)

    def wall_ns(self) -> int:
        """As :meth:`pipeline.timing.Clock.wall_ns`."""
        return self.now_ns()

    def work(self, work_ns: float, then: Then, threads: int = 1) -> None:
        """Keep ``threads`` threads busy for ``work_ns`` of each one's core time, then go on with ``then``."""
        self._ready += threads
        heapq.heappush(self._working, (self._served + work_ns, next(self._numbers), threads, then))

    def at(self, when_ns: float, then: Then) -> None:
        """Go on with ``then`` at a time, or at once where that is past."""
        heapq.heappush(self._timers, (max(when_ns, self._now_ns), next(self._numbers), then))

    def run(self, until_ns: float) -> None:
        """Let time pass."""
        while True:
            speed = min(1.0, self.cores / self._ready) if self._ready else 0.0
            timer_ns = self._timers[0][0] if self._timers else float("inf")
            done_ns = float("inf")
            if self._working:
                done_ns = self._now_ns + max(0.0, self._working[0][0] - self._served) / speed
            next_ns = min(timer_ns, done_ns)
            if next_ns > until_ns:
                self._pass(until_ns, speed)
                return
            self._pass(next_ns, speed)
            if done_ns <= timer_ns:
                self._served, _, threads, then = heapq.heappop(self._working)
                self._ready -= threads
            else:
                _, _, then = heapq.heappop(self._timers)
            then()

    def _pass(self, to_ns: float, speed: float) -> None:
        passed_ns = to_ns - self._now_ns
        self._served += passed_ns * speed
        self.busy_ns += passed_ns * speed * self._ready
        self._now_ns = to_ns


class Server:
    """A thread, or a device, that does one thing after another.

    Args:
        machine: whose cores it needs.
        cores: False: it works beside them, as a GPU does.
    """

    def __init__(self, machine: Machine, *, cores: bool = True) -> None:
        self._machine = machine
        self._on_cores = cores
        self._waiting: deque[tuple[float, Then]] = deque()
        self._busy = False
        self.work_ns = 0.0
        """Of all that was given to it."""

    def __len__(self) -> int:
        """What waits."""
        return len(self._waiting)

    def give(self, work_ns: float, then: Then) -> None:
        """Do this after what was given before."""
        self.work_ns += work_ns
        self._waiting.append((work_ns, then))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        self._busy = bool(self._waiting)
        if not self._busy:
            return
        work_ns, then = self._waiting.popleft()

        def done() -> None:
            then()
            self._next()

        if self._on_cores:
            self._machine.work(work_ns, done)
        else:
            self._machine.at(self._machine.now_ns() + work_ns, done)
