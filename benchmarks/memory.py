# SPDX-License-Identifier: Apache-2.0
"""Memory and threads: four 1080p files, files ten times as long, and a hundred streams in one process.

Peaks are resident memory above an idle process that has imported torch and loaded the model; every figure comes from a
process of its own. Long files are made of the packets of short ones, without encoding them again. Exit status 1: a
stream did not finish, or frames are missing.

    python -m benchmarks.memory [--seconds 4] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av

from pipeline.bench.child import CANDIDATES as BUILT_IN
from pipeline.bench.child import CONFIDENCE, Task, answer
from pipeline.bench.material import Material, make
from pipeline.bench.run import measure
from pipeline.host.caches import cache_folder
from pipeline.replaying import Replay, ReplayOptions
from pipeline.report import peak_rss_mb

CHILD = (str(Path(__file__).resolve()), "--child")
TIMES = 10
STREAMS = 100


def repeated(clip: Path, times: int, target: Path) -> Path:
    """``clip`` ``times`` in a row in one file; its packets are copied."""
    with av.open(str(clip)) as source, av.open(str(target), "w", format="mp4") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        length = stream.duration
        for number in range(times):
            source.seek(0, stream=stream)
            for packet in source.demux(stream):
                if packet.dts is None:
                    continue
                packet.pts += number * length
                packet.dts += number * length
                packet.stream = copy
                out.mux(packet)
    return target


def _replay(task: Task) -> dict[str, Any]:
    """Frames, peak memory, and the most threads that ever ran at a time."""
    with tempfile.TemporaryDirectory() as folder:
        run = Replay(
            ReplayOptions(
                sources=tuple(task["clips"]),
                model=task["model"],
                out=Path(folder),
                confidence=CONFIDENCE,
                device="cpu",
                parallel=task["parallel"],
            )
        )
        run.prepare()
        ready_mb = peak_rss_mb()
        run.begin()
        python_threads = all_threads = 0
        while not run.wait(0.02):
            python_threads = max(python_threads, threading.active_count())
            all_threads = max(all_threads, len(os.listdir("/proc/self/task")))
        report = run.ledger.as_dict()
        return {
            "frames": report["frames"],
            "states": sorted({stream["state"] for stream in report["streams"].values()}),
            "ready_mb": ready_mb,
            "peak_mb": peak_rss_mb(),
            "threads": all_threads,
            "python_threads": python_threads,
            "fps": report["fps"],
        }


def _run(clips: Sequence[Path], model: Path, parallel: int | None) -> dict[str, Any]:
    task = {"candidate": "replay", "clips": [str(clip) for clip in clips], "model": str(model), "parallel": parallel}
    return measure(task, CHILD)


def measured(seconds: float) -> dict[str, Any]:
    """All figures; clips of ``seconds``."""
    clips, model = make(Material(seconds=seconds), cache_folder("bench"))
    small = Material(files=1, width=320, height=180, seconds=2.0, mbit=0.5)
    (little,), _ = make(small, cache_folder("bench"))
    idle_mb = measure({"candidate": "idle", "model": str(model)})["peak_mb"]
    with tempfile.TemporaryDirectory() as folder:
        long = [repeated(clip, TIMES, Path(folder, f"long-{number}.mp4")) for number, clip in enumerate(clips)]
        many = [Path(folder, f"stream-{number}.mp4") for number in range(STREAMS)]
        for link in many:
            link.symlink_to(little)
        runs = {
            "4 files of 1080p": _run(clips, model, None),
            f"the same, {TIMES} times as long": _run(long, model, None),
            f"{STREAMS} small streams": _run(many, model, None),
            f"{STREAMS} small streams, all open at once": _run(many, model, STREAMS),
        }
    first, long, few, many_open = (run["frames"] for run in runs.values())
    faults = [f"{name}: {', '.join(run['states'])}" for name, run in runs.items() if run["states"] != ["finished"]]
    if not first or long != TIMES * first or not few == many_open > 0:
        faults.append(f"{first}, {long}, {few} and {many_open} frames were processed")
    return {"idle_mb": idle_mb, "seconds": seconds, "runs": runs, "faults": faults}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answer({**BUILT_IN, "replay": _replay})
        return
    figures = measured(options.seconds)
    if options.json:
        print(json.dumps(figures))
        sys.exit(bool(figures["faults"]))
    print(f"idle, model loaded: {figures['idle_mb']:.0f} MiB")
    for name, run in figures["runs"].items():
        print(
            f"{name}: {run['frames']:,} frames, {', '.join(run['states'])}; peak {run['peak_mb']:.0f} MiB, "
            f"{run['peak_mb'] - figures['idle_mb']:.0f} above idle; {run['threads']} threads "
            f"({run['python_threads']} of Python); {run['fps']:.0f} fps"
        )
    first, long, *_ = figures["runs"].values()
    print(f"{TIMES} times the length adds {long['peak_mb'] - first['peak_mb']:+.1f} MiB")
    for fault in figures["faults"]:
        print(f"FAULT  {fault}")
    sys.exit(bool(figures["faults"]))


if __name__ == "__main__":
    main()
