# SPDX-License-Identifier: Apache-2.0
"""From single runs to the figures that are quoted: medians, and ratios of candidates that ran in the same round."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.bench.agreement import Agreement

FLOORS = ("decode", "resize", "network")
LOOPS = ("pool", "loop")

Run = Mapping[str, Any]
Measured = Mapping[str, Sequence[Run]]
"""Runs by candidate, one per round in the order of rounds."""


def summarise(measured: Measured, agreement: Mapping[str, Agreement], idle_mb: float, cores: int) -> dict[str, Any]:
    """The figures of a benchmark.

    - ``efficiency``: sum of the floors / cores / wall time of the pipeline. A floor's copies fill all cores, so its
      wall time already is its work divided by the cores.
    - ``cpu_over_floors``: CPU seconds per frame of the pipeline / sum of the floors' CPU seconds per frame.
    - ``speedup``: frames per second of the pipeline / those of another program.
    - ``free_cores``: share of the cores that the floors really got; under 0.9 the machine was busy with other things.

    Args:
        measured: at least ``pipeline`` and :data:`FLOORS`.
        agreement: what was compared, by candidate.
        idle_mb: peak memory of a process that has loaded the model.
        cores: copies of each floor.
    """
    ours = measured["pipeline"]
    others = [name for name in measured if name != "pipeline" and name not in FLOORS]
    by_round = [[measured[name][number] for name in FLOORS] for number in range(len(ours))]
    work_s = [sum(floor["wall_s"] / floor["frames"] for floor in floors) for floors in by_round]
    cpu_s = [sum(floor["cpu_s"] / floor["frames"] for floor in floors) for floors in by_round]
    peak_mb = _median(run["peak_mb"] for run in ours)
    return {
        "agreement": {
            name: {"share": round(found.share, 4), "ours": found.ours, "theirs": found.theirs, "matched": found.matched}
            for name, found in agreement.items()
        },
        "candidates": {name: _medians(measured[name]) for name in ("pipeline", *others)},
        "floors": {name: _medians(measured[name]) for name in FLOORS},
        "efficiency": _median(work * run["frames"] / run["wall_s"] for work, run in zip(work_s, ours, strict=True)),
        "cpu_over_floors": _median(
            run["cpu_s"] / run["frames"] / floor for floor, run in zip(cpu_s, ours, strict=True)
        ),
        "speedup": {
            name: _median(run["fps"] / other["fps"] for run, other in zip(ours, measured[name], strict=True))
            for name in others
        },
        "idle_mb": round(idle_mb, 1),
        "peak_above_idle_mb": round(peak_mb - idle_mb, 1),
        "first_result_ms": _median(run["first_result_ms"] for run in ours),
        "free_cores": _median(
            sum(floor["cpu_s"] for floor in floors) / sum(floor["wall_s"] for floor in floors) / cores
            for floors in by_round
        ),
        "all_runs": {name: [dict(run) for run in runs] for name, runs in measured.items()},
    }


def _medians(runs: Sequence[Run]) -> dict[str, float]:
    keys = ("frames", "fps", "wall_s", "cpu_s", "cpu_ms_per_frame", "peak_mb")
    return {key: _median(run[key] for run in runs) for key in keys}


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 4)
