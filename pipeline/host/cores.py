# SPDX-License-Identifier: Apache-2.0
"""How many CPU cores this process may use: its affinity, and what its control groups grant."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def visible_cores() -> int:
    """Cores by affinity, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allowed_cores() -> int:
    """Cores by affinity and by the quota of the control groups, rounded up; at least 1.

    ``docker run --cpus`` and systemd's ``CPUQuota`` are quotas: they leave all cores visible and stop a process that
    has used its share, so that more threads than this only wait for each other.
    """
    return max(1, min([visible_cores(), *map(math.ceil, _quotas())]))


def _quotas() -> Iterator[float]:
    """In cores, of the group that this process is in and of all above it: cgroup v2, then v1."""
    inside = {"": "/", "cpu": "/"}  # by controller; v2 has no name
    for line in _read(_OWN).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        inside.update(dict.fromkeys(set(controllers.split(",")) & set(inside), path))
    for folder in _upwards(_GROUPS, inside[""]):
        limit, _, period = _read(folder / "cpu.max").partition(" ")
        yield from _ratio(limit, period)
    for folder in _upwards(_GROUPS / "cpu", inside["cpu"]):
        yield from _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """The folder of a group and of those above it. What a container is told may lie outside of what it sees."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    for count in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:count])


def _ratio(limit: str, period: str) -> Iterator[float]:
    if limit.isdecimal() and period.isdecimal() and int(period):
        yield int(limit) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
