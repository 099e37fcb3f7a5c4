# SPDX-License-Identifier: Apache-2.0
"""The benchmark itself: verify, then time every candidate in turn, several rounds, and compare medians."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.bench.agreement import Agreement, compare
from pipeline.bench.material import Material, make
from pipeline.errors import PipelineError

FLOORS = ("decode", "resize", "network")
LOOPS = ("pool", "loop")


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Attributes:
    folder: where the rendered clips and the detector are kept.
    material: what to measure on.
    rounds: how often every candidate runs.
    batch: batch size of the pipeline and of the network floor.
    cores: copies of each floor.
    """

    folder: Path
    material: Material = field(default_factory=Material)
    rounds: int = 3
    batch: int = 4
    cores: int = 2


def run_bench(options: BenchOptions, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Measure and return the figures; raises PipelineError when the candidates do not find the same."""
    say("rendering the clips (once)")
    clips, model = make(options.material, options.folder)
    task = {
        "clips": [str(clip) for clip in clips],
        "model": str(model),
        "side": options.material.input,
        "batch": options.batch,
        "copies": options.cores,
        "frames": options.material.frames * options.material.files,
    }
    say("comparing detections")
    agreement = _verify(task)
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in ("pipeline", *LOOPS, *FLOORS)}
    for number in range(options.rounds):
        for name, runs in measured.items():  # in turn, so that a slow minute of the machine hits all of them
            say(f"round {number + 1} of {options.rounds}: {name}")
            runs.append(measure({**task, "candidate": name}))
    idle = measure({**task, "candidate": "idle"})
    return summarise(options, measured, agreement, idle)


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Run one candidate in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.bench.child"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise PipelineError(f"the candidate {task['candidate']} failed: {reason}")
    result: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return result


def _verify(task: dict[str, Any]) -> dict[str, Agreement]:
    ours = measure({**task, "candidate": "pipeline", "detections": True})["detections"]
    found = {}
    for name in LOOPS:
        theirs = measure({**task, "candidate": name, "detections": True})["detections"]
        found[name] = agreement = compare(ours, theirs)
        if not agreement.frames or not agreement.ours or agreement.share < 0.99:
            raise PipelineError(f"the pipeline and the {name} loop do not find the same: {agreement}")
    return found


def summarise(
    options: BenchOptions,
    measured: dict[str, list[dict[str, Any]]],
    agreement: dict[str, Agreement],
    idle: dict[str, Any],
) -> dict[str, Any]:
    """Medians, and the ratios that matter, round by round where two candidates are compared."""
    floors_s = [sum(measured[name][n]["cpu_s"] for name in FLOORS) for n in range(options.rounds)]
    walls_s = [sum(measured[name][n]["wall_s"] for name in FLOORS) for n in range(options.rounds)]
    ours = measured["pipeline"]
    return {
        "material": {name: getattr(options.material, name) for name in Material.__dataclass_fields__},
        "rounds": options.rounds,
        "batch": options.batch,
        "cores": options.cores,
        "agreement": {name: {"share": found.share, "detections": found.ours} for name, found in agreement.items()},
        "candidates": {name: _medians(runs) for name, runs in measured.items()},
        # A floor's copies fill all cores, so its wall time is its work divided by the cores.
        "efficiency": _median([wall / run["wall_s"] for wall, run in zip(walls_s, ours, strict=True)]),
        "cpu_over_floors": _median([run["cpu_s"] / floor for floor, run in zip(floors_s, ours, strict=True)]),
        "speedup": {
            name: _median([run["fps"] / other["fps"] for run, other in zip(ours, measured[name], strict=True)])
            for name in LOOPS
        },
        "peak_above_idle_mb": _median([run["peak_mb"] for run in ours]) - idle["peak_mb"],
        "first_result_ms": _median([run["first_result_ms"] for run in ours]),
        "all_runs": measured,
    }


def _medians(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    keys = ("fps", "wall_s", "cpu_s", "cpu_ms_per_frame", "peak_mb")
    return {key: _median([run[key] for run in runs]) for key in keys}


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)
