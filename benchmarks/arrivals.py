# SPDX-License-Identifier: Apache-2.0
"""How much faster than real time is a recording of arrivals played on a virtual clock?

RTSP cameras run in a process of their own, and ``pipeline run --record-arrivals`` looks at them for a while. Then the
recording is played twice. Checked first: both plays wrote the same bytes, results and decisions, and played every frame
that was recorded. ``speed`` is the ratio of the recorded seconds to what the whole command took; ``going`` leaves out
what a play of one frame per stream takes, which is loading and reports: so fast is each further second of a recording.

    python -m benchmarks.arrivals --cameras 8 --fps 15 --expect 'speed>=1'
    python -m benchmarks.arrivals --cameras 8 --fps 30 --seconds 45 --expect 'going>=1'

Exit status 1: an expectation is not met, or the plays differ.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.cameras import Cameras, camera_clip
from benchmarks.expectations import unmet
from pipeline.bench.child import CONFIDENCE
from pipeline.host.caches import cache_folder
from pipeline.host.orphans import no_orphan
from pipeline.replaying.arrivals import DECISIONS

_END_S = 60.0


def record(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run, record and stop; the report of the run."""
    fps = options.fps
    clip, light = camera_clip(cache_folder("bench"), fps=fps, gop=fps)
    cameras = Cameras(clip, options.cameras, fps, folder / "sent.log")
    model = {"path": str(light), "confidence": CONFIDENCE, "device": "cpu", "tuned": False}
    config = {
        "model": model if options.model is None else {"path": options.model},
        "batch": {"workers": options.workers or "auto"},
        "defaults": {"isolation": options.isolation},
        "streams": [{"name": url.rsplit("/", 1)[1], "source": url} for url in cameras.urls],
    }
    (folder / "streams.yaml").write_text(yaml.safe_dump(config))
    command = [*_pipeline("run"), str(folder / "streams.yaml"), "--record-arrivals", str(folder / "rec")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=no_orphan())
    try:
        time.sleep(options.seconds)
        run.send_signal(signal.SIGTERM)
        report: dict[str, Any] = json.loads(run.communicate(timeout=_END_S)[0])
    finally:
        run.kill()
        cameras.kill()
    return report


def play(folder: Path, name: str, *more: str) -> dict[str, Any]:
    """Play it on a virtual clock: seconds of the whole command, of its CPU, and its report."""
    before, began = _cpu_s(), time.monotonic()
    command = [*_pipeline("replay"), "--arrivals", str(folder / "rec"), "--out", str(folder / name), *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {
        "took_s": time.monotonic() - began,
        "cpu_s": _cpu_s() - before,
        "report": json.loads(done.stdout),
    }


def _pipeline(command: str) -> list[str]:
    return [sys.executable, "-m", "pipeline", command, "--json", "--quiet"]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compared(
    run: dict[str, Any], plays: list[dict[str, Any]], short: dict[str, Any], folder: Path
) -> tuple[dict[str, float], list[str]]:
    """Figures of the faster play, and what is wrong; ``short``: a play of next to nothing."""
    report = plays[0]["report"]
    names = [DECISIONS, *(f"{name}.jsonl" for name in report["streams"])]
    faults = [
        f"the plays differ in {name}"
        for name in names
        if not filecmp.cmp(folder / "0" / name, folder / "1" / name, shallow=False)
    ]
    decoded = {name: stream["frames"]["decoded"] for name, stream in run["streams"].items()}
    played = {name: stream["frames"]["decoded"] for name, stream in report["streams"].items()}
    if decoded != played:
        faults.append(f"{decoded} frames were recorded, {played} played")
    fastest = min(plays, key=lambda each: float(each["took_s"]))
    told = report["arrivals"]["streams"].values()
    figures = {
        "recorded_s": report["wall_s"],
        "took_s": fastest["took_s"],
        "short_s": short["took_s"],
        "cpu_s": fastest["cpu_s"],
        "run_cores": run["cpu_s"] / run["wall_s"],
        "speed": report["wall_s"] / fastest["took_s"],
        "going": report["wall_s"] / (fastest["took_s"] - short["took_s"]),
        "run_frames": run["frames"],
        "play_frames": report["frames"],
        "same": sum(each["same"] for each in told) / max(1, sum(each["frames"] for each in told)),
    }
    return figures, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--fps", type=int, default=15, help="of each camera (default 15)")
    parser.add_argument("--isolation", choices=["thread", "process"], default="thread", help="where they are read")
    parser.add_argument("--workers", type=int, help="of the network as it is recorded (default: one for each core)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the run, loading included (default 30)")
    parser.add_argument("--model", help="default: the small one of all benchmarks")
    parser.add_argument("--expect", nargs="+", default=[], metavar="NAME>=NUMBER")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = record(options, folder)
        plays = [play(folder, str(number)) for number in range(2)]
        short = play(folder, "short", "--limit", "1")
        figures, faults = compared(run, plays, short, folder)
    faults += [fault for wanted in options.expect if (fault := unmet(figures, wanted, figures)) is not None]
    if options.json:
        print(json.dumps({"options": vars(options), **figures, "faults": faults}))
    else:
        print(
            f"{options.cameras} cameras, {figures['recorded_s']:.1f} s on {figures['run_cores']:.2f} cores: played in"
            f" {figures['took_s']:.1f} s, {figures['speed']:.2f} times as fast ({figures['going']:.2f} without the"
            f" {figures['short_s']:.1f} s of loading and reports), {figures['cpu_s']:.1f} s of CPU;"
            f" {figures['run_frames']} results then, {figures['play_frames']} now,"
            f" {figures['same']:.1%} of frames with the same outcome"
        )
        for fault in faults:
            print(f"NOT MET  {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
