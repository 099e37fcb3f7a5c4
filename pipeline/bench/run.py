# SPDX-License-Identifier: Apache-2.0
"""The benchmark itself: verify, then time every candidate in turn, several rounds, and compare within each round."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.bench.agreement import Agreement, compare
from pipeline.bench.material import Material, make
from pipeline.bench.summary import FLOORS, LOOPS, Measured, Run, summarise
from pipeline.errors import PipelineError
from pipeline.host.orphans import no_orphan

CHILD = ("-m", "pipeline.bench.child")
VERIFIED_FRAMES = 30
"""Frames per clip whose detections are compared."""
LEAST_SHARE = 0.99
"""Candidates that agree in a smaller share of their detections are not compared in speed."""

Say = Callable[[str], None]
Task = dict[str, Any]
Measure = Callable[[Task, Sequence[str]], dict[str, Any]]


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


@dataclass(frozen=True, slots=True)
class Peer:
    """Another program on the same work.

    Attributes:
        name: the candidate's name.
        child: arguments of Python that run it as :mod:`pipeline.bench.child` does.
        tolerance_px: how far its corners may lie from ours.
    """

    name: str
    child: tuple[str, ...] = CHILD
    tolerance_px: float = 1.5


BUILT_IN = tuple(Peer(name) for name in LOOPS)


def measure(task: Task, child: Sequence[str] = CHILD) -> dict[str, Any]:
    """Run one candidate in a process of its own; raises PipelineError when it fails."""
    done = subprocess.run(
        [sys.executable, *child],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=no_orphan(),
    )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise PipelineError(f"the candidate {task['candidate']} failed: {reason}")
    result: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return result


def run_bench(
    options: BenchOptions, say: Say = lambda text: None, peers: Sequence[Peer] = (), *, measure: Measure = measure
) -> dict[str, Any]:
    """Measure and return the figures.

    Args:
        options: what to measure.
        say: is told what is being done.
        peers: further programs.
        measure: runs one candidate; by default in a process of its own.

    Raises:
        PipelineError: candidates do not find the same, or one failed.
    """
    clips, model = make(options.material, options.folder, say)
    task: Task = {
        "clips": [str(clip) for clip in clips],
        "model": str(model),
        "side": options.material.input,
        "width": options.material.width,
        "height": options.material.height,
        "batch": options.batch,
        "copies": options.cores,
        "frames": options.material.frames * options.material.files,
    }
    others = (*BUILT_IN, *peers)
    agreement = _verify(task, others, say, measure)
    found = _rounds(task, others, options.rounds, say, measure)
    say("memory of an idle process")
    idle = measure({**task, "candidate": "idle"}, CHILD)
    facts = {
        "material": {name: getattr(options.material, name) for name in Material.__dataclass_fields__},
        "rounds": options.rounds,
        "batch": options.batch,
        "cores": options.cores,
    }
    return facts | summarise(found, agreement, idle["peak_mb"], options.cores)


def _verify(task: Task, others: Sequence[Peer], say: Say, measure: Measure) -> dict[str, Agreement]:
    task = {**task, "detections": True, "limit": VERIFIED_FRAMES}
    say("detections of the pipeline")
    ours = measure({**task, "candidate": "pipeline"}, CHILD)["detections"]
    agreement = {}
    for peer in others:
        say(f"the same detections? {peer.name}")
        theirs = measure({**task, "candidate": peer.name}, peer.child)["detections"]
        agreement[peer.name] = found = compare(ours, theirs, peer.tolerance_px)
        if not found.ours and not found.theirs:
            raise PipelineError("nothing is found in the clips, so there is nothing to compare")
        if not found.frames or found.share < LEAST_SHARE:
            raise PipelineError(
                f"the pipeline and {peer.name} do not find the same, so their speed cannot be compared: "
                f"{found.matched} of {found.ours} and {found.theirs} detections match"
                + ("" if found.frames else ", and they do not see as many frames")
            )
    return agreement


def _rounds(task: Task, others: Sequence[Peer], rounds: int, say: Say, measure: Measure) -> Measured:
    """Candidates take turns, so that a slow minute of the machine hits all of them."""
    found: dict[str, list[Run]] = {name: [] for name in ("pipeline", *(peer.name for peer in others), *FLOORS)}
    for number in range(1, rounds + 1):
        for peer in (Peer("pipeline"), *others):
            say(f"round {number} of {rounds}: {peer.name}")
            found[peer.name].append(measure({**task, "candidate": peer.name}, peer.child))
        say(f"round {number} of {rounds}: decode, resize and network alone")
        floors = measure({**task, "candidate": "floors"}, CHILD)
        for name in FLOORS:
            found[name].append(floors[name])
    return found
