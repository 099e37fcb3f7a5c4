# SPDX-License-Identifier: Apache-2.0
"""More threads than cores: they wait for each other, and everything takes several times as long."""

from __future__ import annotations

import os

from pipeline.host.cores import allowed_cores, visible_cores
from pipeline.workshop.doctor.finding import Finding

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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
    if cores < visible_cores():
        return Finding(
            "threads",
            "note",
            f"{visible_cores()} cores are visible, but the control group grants the time of {cores}: the pipeline "
            f"starts {cores} worker{'s' if cores > 1 else ''}; libraries that count cores by themselves start more",
            f"for other programs set OMP_NUM_THREADS={cores}, or start the container with --cpuset-cpus, not --cpus",
        )
    return None
