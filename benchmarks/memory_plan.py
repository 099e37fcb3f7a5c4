# SPDX-License-Identifier: Apache-2.0
"""What reused memory is worth: eight files of 1080p, replayed with the memory plan and without it.

Without it every network input and every batch tensor is new memory: the pool allocates at each loan, the feed at each
batch; nothing else differs. Each run is a process of its own, variants take turns, and all must find the same before
their figures count. Peaks are resident memory; deviations are over all frames of a run.

    python -m benchmarks.memory_plan [--seconds 4] [--rounds 5] [--input 352] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from pipeline.bench.child import CONFIDENCE, Task, answer
from pipeline.bench.material import Material, make
from pipeline.bench.run import measure
from pipeline.frame import Uint8Array
from pipeline.frame.buffers import BufferPool, Shape
from pipeline.host.caches import cache_folder
from pipeline.timing import STAGES, cpu_ns, elapsed, stage_times

CHILD = (str(Path(__file__).resolve()), "--child")
FILES = 8
VARIANTS = ("plan", "no plan")


class NewEveryTime(BufferPool):
    """A pool that keeps nothing: each loan is new memory, given back to the system's allocator."""

    def acquire(self, shape: Shape) -> Uint8Array:
        """New memory."""
        return np.empty(shape, np.uint8)

    def release(self, array: Uint8Array) -> None:
        """Its memory goes with its last reference."""


def new_feed() -> Any:
    """A feed class whose batches are new memory each, as large as they need to be."""
    import torch

    from pipeline.detectors.feeding import CpuFeed

    class FeedAnew(CpuFeed):
        def fill(self, pictures: Sequence[Uint8Array], size: int) -> torch.Tensor:
            dtype = self._memory.dtype
            self._slots.clear()
            del self._memory
            self._memory = torch.empty((size, *pictures[0].shape), dtype=dtype)
            return super().fill(pictures, size)

    return FeedAnew


def _replay(task: Task) -> dict[str, Any]:
    """One run: what was found (as a digest), peak memory, and the spread of every stage."""
    from pipeline.ledger import StreamLedger
    from pipeline.replaying import Replay, ReplayOptions
    from pipeline.report import peak_rss_mb

    ends: list[int] = []
    stages: dict[str, list[int]] = {stage: [] for stage in STAGES}
    finished = StreamLedger.finished

    def seen(self: StreamLedger, trace: list[int]) -> None:
        finished(self, trace)
        ends.append(elapsed(trace))
        for stage, duration_ns in stage_times(trace).items():
            stages[stage].append(duration_ns)

    switches: list[Any] = [mock.patch.object(StreamLedger, "finished", seen)]
    if task["variant"] == "no plan":
        switches.append(mock.patch("pipeline.flow.pipeline.BufferPool", NewEveryTime))
        switches.append(mock.patch("pipeline.detectors.network.CpuFeed", new_feed()))
    with tempfile.TemporaryDirectory() as folder:
        for switch in switches:
            switch.start()
        run = Replay(
            ReplayOptions(
                sources=tuple(task["clips"]),
                model=task["model"],
                out=Path(folder),
                confidence=CONFIDENCE,
                device="cpu",
                parallel=FILES,
                tuned=False,
            )
        )
        run.prepare()
        ready_mb = peak_rss_mb()
        before, before_ns = resource.getrusage(resource.RUSAGE_SELF), cpu_ns()
        run.begin()
        while not run.wait(60.0):
            pass
        spent_ns = cpu_ns() - before_ns
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before.ru_minflt
        digest = hashlib.sha256(b"".join(Path(folder, f"{name}.jsonl").read_bytes() for name in run.streams))
        report = run.ledger.as_dict()
    found: dict[str, Any] = {
        "digest": digest.hexdigest(),
        "frames": report["frames"],
        "fps": report["fps"],
        "ready_mb": ready_mb,
        "peak_mb": peak_rss_mb(),
        "cpu_ms_per_frame": spent_ns / 1e6 / report["frames"],
        "page_faults_per_frame": faults / report["frames"],
    }
    for name, values in {"end_to_end": ends, **stages}.items():
        if len(values) > 1:
            ms = [value / 1e6 for value in values]
            found[name] = {"mean_ms": statistics.fmean(ms), "deviation_ms": statistics.stdev(ms), "max_ms": max(ms)}
    return found


def measured(seconds: float, rounds: int, side: int) -> dict[str, Any]:
    """All runs, their medians, and the ratios of the plan to no plan; raises ValueError where runs find different."""
    clips, model = make(Material(files=FILES, seconds=seconds, input=side), cache_folder("bench"))
    load = os.getloadavg()[0]
    runs: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}

    def once(variant: str) -> dict[str, Any]:
        print(".", end="", flush=True, file=sys.stderr)
        task = {"candidate": "replay", "variant": variant, "clips": list(map(str, clips)), "model": str(model)}
        return measure(task, CHILD)

    once(VARIANTS[0])  # the first run of a model tries it, and keeps the verdict for the others
    for number in range(rounds):
        for variant in VARIANTS if number % 2 == 0 else VARIANTS[::-1]:
            runs[variant].append(once(variant))
    print(file=sys.stderr)
    digests = {run["digest"] for made in runs.values() for run in made}
    frames = {run["frames"] for made in runs.values() for run in made}
    if len(digests) != 1 or len(frames) != 1 or 0 in frames:
        raise ValueError("the runs did not find the same; nothing is compared")
    medians = {variant: _medians(made) for variant, made in runs.items()}
    plan, without = (medians[variant] for variant in VARIANTS)
    return {
        "seconds": seconds,
        "input": side,
        "load": {"before": load, "after": os.getloadavg()[0], "processors": os.cpu_count()},
        "rounds": rounds,
        "frames": frames.pop(),
        "medians": medians,
        "ratio": {key: plan[key] / without[key] for key in plan if without[key]},
        "runs": runs,
    }


def _medians(made: Sequence[dict[str, Any]]) -> dict[str, float]:
    def middle(*path: str) -> float:
        values = []
        for run in made:
            value: Any = run
            for key in path:
                value = value[key]
            values.append(float(value))
        return statistics.median(values)

    return {
        "peak_mb": middle("peak_mb"),
        "above_ready_mb": statistics.median(run["peak_mb"] - run["ready_mb"] for run in made),
        "page_faults_per_frame": middle("page_faults_per_frame"),
        "cpu_ms_per_frame": middle("cpu_ms_per_frame"),
        "fps": middle("fps"),
        "end_to_end_mean_ms": middle("end_to_end", "mean_ms"),
        "end_to_end_deviation_ms": middle("end_to_end", "deviation_ms"),
        "preprocess_mean_ms": middle("preprocess", "mean_ms"),
        "preprocess_deviation_ms": middle("preprocess", "deviation_ms"),
        "infer_mean_ms": middle("infer", "mean_ms"),
        "infer_deviation_ms": middle("infer", "deviation_ms"),
        "infer_max_ms": middle("infer", "max_ms"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--input", type=int, default=352, help="side of the network's input in pixels")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answer({"replay": _replay})
        return
    figures = measured(options.seconds, options.rounds, options.input)
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{FILES} files, {figures['frames']:,} frames, the same found in all {2 * options.rounds} runs; medians")
    load = figures["load"]
    busy = f"load {load['before']:.1f} before, {load['after']:.1f} after, on {load['processors']} processors"
    print(f"{busy}: where other programs run, deviations are theirs")
    print(f"{'':26}{'plan':>10}{'no plan':>10}{'ratio':>8}")
    plan, without = (figures["medians"][variant] for variant in VARIANTS)
    for key, ratio in figures["ratio"].items():
        print(f"{key.replace('_', ' '):26}{plan[key]:10.2f}{without[key]:10.2f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
