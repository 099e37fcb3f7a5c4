# SPDX-License-Identifier: Apache-2.0
"""The only place that reads a clock. Monotonic nanoseconds inside; wall time only for what leaves the program."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Final, Protocol


class Clock(Protocol):
    """What loops need to know about time. Tests pass :class:`pipeline.testing.ManualClock`."""

    def now_ns(self) -> int:
        """Monotonic time in nanoseconds; only differences mean anything."""
        ...

    def wall_ns(self) -> int:
        """Wall-clock time in nanoseconds since 1970-01-01 UTC; may step, so it is never subtracted."""
        ...


class SystemClock:
    """The clocks of the operating system."""

    def now_ns(self) -> int:
        """``CLOCK_MONOTONIC`` in nanoseconds."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """``CLOCK_REALTIME`` in nanoseconds since the epoch."""
        return time.time_ns()


SYSTEM = SystemClock()
_APART_NS: Final = 100_000_000

# The same function under a short name: sources and loops stamp thousands of marks a second with it.
now_ns = time.monotonic_ns


def wall_ns() -> int:
    """Wall-clock nanoseconds since 1970-01-01 UTC."""
    return time.time_ns()


def cpu_ns() -> int:
    """CPU time of this process, user and system, all threads, in nanoseconds."""
    return time.process_time_ns()


def thread_cpu_ns() -> int:
    """CPU time of the calling thread, user and system, in nanoseconds: what the tracker measures itself with."""
    return time.thread_time_ns()


def process_cpu_ns(pid: int) -> int:
    """CPU time so far of a process, all its threads, in nanoseconds; 0 where there is none. Only Linux has a clock for
    each process, whose number follows from the pid (clock_getcpuclockid(3))."""
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)
    except OSError:
        return 0


class Anchor:
    """Wall time of monotonic moments, the same for the same moment however often it is asked for.

    Clocks drift apart by microseconds all the time. Where they are :data:`_APART_NS` apart, since the system's clock
    was set or the run is long, a moment is told anew.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._offset_ns = self._found_ns()

    def wall_ns(self, at_ns: int) -> int:
        """Nanoseconds since 1970-01-01 UTC of a moment of :func:`now_ns`."""
        offset_ns = self._found_ns()
        if abs(offset_ns - self._offset_ns) > _APART_NS:
            self._offset_ns = offset_ns
        return at_ns + self._offset_ns

    def _found_ns(self) -> int:
        return self._clock.wall_ns() - self._clock.now_ns()


def rfc3339(wall_ns: int) -> str:
    """Wall time as RFC 3339 UTC with microseconds, such as ``2026-11-23T15:24:05.123456Z``."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
