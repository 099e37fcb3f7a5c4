# SPDX-License-Identifier: Apache-2.0
"""One candidate in a process of its own, so that its CPU time and memory are its own: ``-m pipeline.bench.child``.

Reads a task as JSON on standard input and prints the measurement as JSON on standard output. Importing and loading come
before the clock starts.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.report import peak_rss_mb
from pipeline.timing import cpu_ns, now_ns

CONFIDENCE = 0.4

Task = dict[str, Any]
Candidate = Callable[[Task], dict[str, Any]]


def answer(candidates: Mapping[str, Candidate]) -> None:
    """Run the task on standard input."""
    task = json.load(sys.stdin)
    print(json.dumps(candidates[task["candidate"]](task)))


def measured(work: Callable[[], int]) -> dict[str, Any]:
    """Wall and CPU seconds, frames and peak memory of ``work``, which returns the number of frames."""
    before_mb = peak_rss_mb()
    wall_ns, process_ns = now_ns(), cpu_ns()
    frames = work()
    wall_s, cpu_s = (now_ns() - wall_ns) / 1e9, (cpu_ns() - process_ns) / 1e9
    return {
        "frames": frames,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "fps": frames / wall_s,
        "cpu_ms_per_frame": cpu_s / frames * 1e3 if frames else None,
        "before_mb": before_mb,
        "peak_mb": peak_rss_mb(),
    }


def _pipeline(task: Task) -> dict[str, Any]:
    from pipeline.replaying import Replay, ReplayOptions

    with tempfile.TemporaryDirectory() as folder:
        run = Replay(
            ReplayOptions(
                sources=tuple(task["clips"]),
                model=task["model"],
                out=Path(folder),
                confidence=CONFIDENCE,
                device="cpu",
                batch=task["batch"],
                workers=task.get("workers"),
                limit=task.get("limit"),
                tuned=False,
            )
        )

        def work() -> int:
            run.begin()
            while not run.wait(60.0):
                pass
            return sum(account.processed for account in run.ledger.streams.values())

        run.prepare()
        figures = measured(work)
        report = run.ledger.as_dict()
        figures["first_result_ms"] = report["first_result_ms"]
        figures["mean_batch"] = report["batches"]["mean_size"]
        figures["stages"] = {stage: stats["mean_ms"] for stage, stats in report["total"]["stages"].items()}
        if task.get("detections"):
            figures["detections"] = [_read_jsonl(Path(folder) / f"{name}.jsonl") for name in run.streams]
        return figures


def _read_jsonl(path: Path) -> list[list[list[float]]]:
    records = (json.loads(line) for line in path.read_text().splitlines())
    return [[[*found["box"], found["class_id"]] for found in record["detections"]] for record in records]


def _plain(task: Task) -> dict[str, Any]:
    from pipeline.bench import plain

    if task["candidate"] == "pool":
        import torch

        torch.set_num_threads(1)
    network = plain.load(Path(task["model"]))
    run = plain.pool if task["candidate"] == "pool" else plain.loop
    found: list[Any] = []

    def work() -> int:
        clips = [Path(clip) for clip in task["clips"]]
        found.extend(run(clips, network, task["side"], CONFIDENCE, task.get("limit")))
        return sum(len(file) for file in found)

    figures = measured(work)
    if task.get("detections"):
        figures["detections"] = found
    return figures


def _floors(task: Task) -> dict[str, Any]:
    """All three, one after another; the figures of each under its name."""
    import cv2

    from pipeline.bench import floors
    from pipeline.detectors import build_detector
    from pipeline.detectors.loading.load import load_model

    cv2.setNumThreads(1)
    clips = [Path(clip) for clip in task["clips"]]
    # What the pipeline gives this model for pictures of this shape: work that it need not do is no floor.
    spec = build_detector(task["model"], device="cpu").spec.trimmed(task["width"], task["height"])
    batch, copies, frames = task["batch"], task["copies"], task["frames"]
    module = load_model(Path(task["model"])).module
    floors.network(module, spec, batch, 4 * batch * copies, copies)  # warm
    return {
        "decode": measured(lambda: floors.decode(clips, copies)),
        "resize": measured(lambda: floors.resize(clips[0], spec, frames, copies)),
        "network": measured(lambda: floors.network(module, spec, batch, frames, copies)),
    }


def _idle(task: Task) -> dict[str, Any]:
    """A process that has imported torch and loaded the model, and does nothing: the base of the memory figure."""
    from pipeline.detectors.loading.load import load_model

    loaded = load_model(Path(task["model"]))
    assert loaded.module is not None
    return {"peak_mb": peak_rss_mb()}


def _capacity(task: Task) -> dict[str, Any]:
    """``config``: the contents of a streams.yaml; ``seconds``, ``warm_s``: see :func:`measure_capacity`."""
    from pipeline.bench.capacity import capacity_of

    return capacity_of(task["config"], task["seconds"], task["warm_s"])


CANDIDATES: dict[str, Candidate] = {
    "pipeline": _pipeline,
    "loop": _plain,
    "pool": _plain,
    "floors": _floors,
    "idle": _idle,
    "capacity": _capacity,
}

if __name__ == "__main__":
    answer(CANDIDATES)
