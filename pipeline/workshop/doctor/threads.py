# SPDX-License-Identifier: Apache-2.0
"""More threads than cores: they wait for each other, and everything takes several times as long."""

from __future__ import annotations

import math
import os
from pathlib import Path

from pipeline.workshop.doctor.finding import Finding

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_OLD_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_OLD_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def too_many() -> Finding | None:
    """Threads per operator times workers exceed the cores; in this environment, before the pipeline sets its own."""
    cores = allowed_cores()
    named = {name: int(os.environ[name]) for name in _VARIABLES if os.environ.get(name, "").isdecimal()}
    worst = max(named, key=lambda name: named[name], default=None)
    if worst is not None and named[worst] > cores:
        threads = named[worst]
        return Finding(
            "threads",
            "warning",
            f"{worst}={threads} on {cores} core{'s' if cores > 1 else ''}: with {cores} workers up to "
            f"{threads * cores} threads want to run",
            f"unset {worst}, or set it to 1: the pipeline's workers are the parallelism",
        )
    if cores < processors():
        return Finding(
            "threads",
            "warning",
            f"{processors()} cores are visible, but the control group grants the time of {cores}: one worker per "
            "visible core is too many, and torch starts as many threads again",
            f"set batch.workers: {cores} (replay: --workers {cores}) and OMP_NUM_THREADS=1, or start the container "
            "with --cpuset-cpus instead of --cpus",
        )
    return None


def processors() -> int:
    """CPU cores by affinity. Not asked of :mod:`pipeline.build`, which needs the OpenCV that may be broken here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allowed_cores() -> int:
    """Cores that this process may use: its affinity, and the control group's quota rounded up."""
    quota = _quota()
    return processors() if quota is None else max(1, min(processors(), math.ceil(quota)))


def _quota() -> float | None:
    try:
        limit, _, period = _QUOTA.read_text().strip().partition(" ")
    except OSError:
        try:
            limit, period = _OLD_QUOTA.read_text().strip(), _OLD_PERIOD.read_text().strip()
        except OSError:
            return None
    return int(limit) / int(period) if limit.isdecimal() and period.isdecimal() else None
