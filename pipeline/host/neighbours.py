# SPDX-License-Identifier: Apache-2.0
"""What others take of the cores that this program may use: other programs, and on a virtual machine its host.

Where a quota grants fewer cores than there are, as in a container, the rest was never this program's: only what others
use beyond that is taken from it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.host.cores import allowed_cores, visible_cores
from pipeline.timing import cpu_ns, now_ns, process_cpu_ns

_STAT: Final = Path("/proc/stat")
_BUSY: Final = (0, 1, 2, 5, 6, 7)
"""Columns of a core in /proc/stat (proc_stat(5)): user, nice, system, irq, softirq, steal."""
_CHILDREN: Final[set[int]] = set()
"""Processes that are counted as own. The system's own list of them takes a file per thread of this process."""

LEAST_NS: Final = 500_000_000
"""Of a shorter time nothing is told: it is counted in hundredths of a second on each core."""


class Moment(NamedTuple):
    """Nanoseconds so far, of which only differences mean anything.

    Attributes:
        at_ns: monotonic.
        used_ns: CPU time that anybody spent on these cores.
        own_ns: of it, this process, those of :func:`count_as_own`, and all others that it started once they ended.
    """

    at_ns: int
    used_ns: int
    own_ns: int


def count_as_own(pid: int) -> None:
    """What a process takes that this one started is not others'; until :func:`count_no_longer`. From any thread."""
    _CHILDREN.add(pid)


def count_no_longer(pid: int) -> None:
    """It has ended and was waited for: the system adds it to what this process took."""
    _CHILDREN.discard(pid)


def moment() -> Moment | None:
    """Now; None where the system does not tell (Linux does)."""
    used_ns = _used_ns()
    return None if used_ns is None else Moment(now_ns(), used_ns, _own_ns())


def others(before: Moment | None, after: Moment | None) -> float | None:
    """Cores that others took on average; None where one of the moments is not known, or they are too near."""
    if before is None or after is None or after.at_ns - before.at_ns < LEAST_NS:
        return None
    spent_ns = (after.used_ns - before.used_ns) - (after.own_ns - before.own_ns)
    allowed = allowed_cores()
    return min(max(0.0, spent_ns / (after.at_ns - before.at_ns) - (visible_cores() - allowed)), float(allowed))


def _used_ns() -> int | None:
    try:
        lines = _STAT.read_text().splitlines()
        mine = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return None
    found = [line.split() for line in lines if line.partition(" ")[0] in mine]
    try:
        ticks = sum(int(fields[1 + column]) for fields in found for column in _BUSY)
    except (IndexError, ValueError):
        return None
    return ticks * tick_ns if ticks else None  # a sandbox may show zeros


def _own_ns() -> int:
    ended = os.times()
    ended_ns = round((ended.children_user + ended.children_system) * 1e9)
    return cpu_ns() + ended_ns + sum(map(process_cpu_ns, list(_CHILDREN)))
