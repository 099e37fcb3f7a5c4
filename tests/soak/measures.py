# SPDX-License-Identifier: Apache-2.0
"""What is measured during a soak, and what must hold at its end."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.processes import TRACES

MB = 1e6
GROWTH_MB, GROWTH_MB_PER_HOUR = 8.0, 1.0
"""Most by which the memory may grow from the second quarter to the last one: noise, and a slope for long runs."""
RECOVERY_S = 35.0
LINES_PER_TROUBLE, LINES_PER_STREAM_MINUTE = 15, 2


@dataclass(frozen=True)
class Sample:
    """The process at one moment; ``at_s`` since the beginning."""

    at_s: float
    resident_bytes: int
    descriptors: int
    threads: int


@dataclass
class Measures:
    """Everything that is kept of a soak. Recoveries are seconds from the end of a trouble to new results."""

    samples: list[Sample] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    troubles: dict[str, int] = field(default_factory=dict)
    looks: int = 0
    unanswered: int = 0

    def quarter(self, number: int) -> Sequence[Sample]:
        """Samples of the first (0) to the last (3) quarter."""
        size = len(self.samples) / 4
        return self.samples[int(number * size) : int((number + 1) * size)] or self.samples[-1:]

    def growth_mb(self) -> float:
        """Memory of the last quarter less that of the second: at first, buffers and arenas are made."""
        first, last = (statistics.median(s.resident_bytes for s in self.quarter(n)) for n in (1, 3))
        return (last - first) / MB

    def summary(self) -> dict[str, Any]:
        """Figures."""
        recoveries = sorted(second for each in self.recoveries.values() for second in each)
        last = self.samples[-1]
        resident = [statistics.median(sample.resident_bytes for sample in self.quarter(n)) / MB for n in range(4)]
        return {
            "seconds": round(last.at_s, 1),
            "troubles": dict(sorted(self.troubles.items())),
            "resident_mb_by_quarter": [round(each, 1) for each in resident],
            "growth_mb": round(self.growth_mb(), 2),
            "descriptors": _first_most_last([sample.descriptors for sample in self.samples]),
            "threads": _first_most_last([sample.threads for sample in self.samples]),
            "looks": {"asked": self.looks, "unanswered": self.unanswered},
            "recoveries": len(recoveries),
            "recovery_p50_s": round(statistics.median(recoveries), 2) if recoveries else None,
            "recovery_p99_s": round(recoveries[math.ceil(0.99 * len(recoveries)) - 1], 2) if recoveries else None,
            "slowest_recovery_s": {name: round(max(each), 2) for name, each in sorted(self.recoveries.items())},
        }

    def faults(self) -> list[str]:
        """What does not hold."""
        found = []
        hours = (self.samples[-1].at_s - self.samples[0].at_s) / 3600
        limit = GROWTH_MB + GROWTH_MB_PER_HOUR * hours
        if self.growth_mb() > limit:
            found.append(f"memory grew by {self.growth_mb():.1f} MB, more than {limit:.1f}")
        first, last = self.samples[0], self.samples[-1]
        if last.descriptors > first.descriptors + 2:
            found.append(f"descriptors: {first.descriptors} at first, {last.descriptors} at the end")
        if last.threads > first.threads + 1:
            found.append(f"threads: {first.threads} at first, {last.threads} at the end")
        if self.unanswered > max(1, 0.01 * self.looks):
            found.append(f"{self.unanswered} of {self.looks} questions to the API were not answered")
        p99 = self.summary()["recovery_p99_s"]
        if p99 is None or p99 > RECOVERY_S:
            found.append(f"recovery p99 {p99} s, more than {RECOVERY_S}")
        return found


def _first_most_last(values: Sequence[int]) -> dict[str, int]:
    return {"first": values[0], "most": max(values), "last": values[-1]}


def log_faults(log: str, troubles: int, stream_minutes: float) -> list[str]:
    """What must not be in the log: exceptions, or more lines than there was to say."""
    lines = log.splitlines()
    found = [f"the log has {word!r}" for word in TRACES if word in log]
    limit = LINES_PER_TROUBLE * troubles + LINES_PER_STREAM_MINUTE * stream_minutes + 50
    if len(lines) > limit:
        found.append(f"{len(lines)} log lines, more than {limit:.0f}")
    return found


def report_faults(report: Mapping[str, Any]) -> list[str]:
    """Accounts that do not balance."""
    found = []
    for name, stream in report["streams"].items():
        frames = stream["frames"]
        if frames["decoded"] != frames["processed"] + sum(frames["dropped"].values()) + frames["decimated"]:
            found.append(f"{name}: frames unaccounted for: {frames}")
    for name, sink in report["sinks"].items():
        if sink["received"] != sink["written"] + sum(sink["lost"].values()):
            found.append(f"sink {name}: results unaccounted for: {sink}")
    return found


def output_faults(folder: Path) -> list[str]:
    """Lines that do not parse, and frames out of order: a stream that is begun anew goes on with its numbers."""
    found = []
    for path in sorted(folder.iterdir()):
        frames = []
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
            try:
                frames.append(json.loads(line)["frame"])
            except (ValueError, KeyError):
                found.append(f"{path.name}:{number}: not a record")
        back = [b for a, b in pairwise(frames) if b <= a]
        if back and ".events." not in path.name:
            found.append(f"{path.name}: frames out of order: {back}")
    return found
