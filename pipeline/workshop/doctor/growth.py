# SPDX-License-Identifier: Apache-2.0
"""A model that keeps something of every call, so that memory grows until the program is killed."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.detectors.engine import TorchScriptDetector
from pipeline.frame import Item
from pipeline.host.footprint import resident_bytes
from pipeline.workshop.doctor.finding import Finding
from pipeline.workshop.frames import detect

CALLS = 40
"""Calls per measurement; three measurements are compared."""

LEAST_BYTES = 2 << 20
"""Growth per measurement from which it is one."""

_MOST_BYTES = 1 << 30


def memory_grows(detector: TorchScriptDetector, inputs: Sequence[Item]) -> Finding | None:
    """Resident memory after 40, 80 and 120 calls: an allocator's caches stop growing, what a model keeps does not."""
    detect(detector, inputs)
    before = resident_bytes()
    if before is None:
        return None
    steps = []
    for _ in range(3):
        for number in range(CALLS):
            detect(detector, [inputs[number % len(inputs)]])
        now = resident_bytes() or before
        steps.append(now - before)
        before = now
        if sum(steps) > _MOST_BYTES:
            break
    if min(steps[-2:]) < LEAST_BYTES:
        return None
    per_call = sum(steps[-2:]) / len(steps[-2:]) / CALLS
    return Finding(
        "growth",
        "fault",
        f"{detector.model_info()['path']}: memory grows by {per_call / 1e3:,.0f} kB with every picture "
        f"({per_call * 25 * 3600 / 1e9:,.0f} GB per hour at 25 pictures a second)",
        "it keeps tensors between calls (a list or a buffer that it appends to): remove that and export it again",
    )
