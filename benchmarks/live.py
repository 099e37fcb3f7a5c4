# SPDX-License-Identifier: Apache-2.0
"""Live cameras, seen from outside: how old is a result when its line can be read, and how many frames get one?

RTSP cameras run in a process of their own and write down when they sent each frame. ``pipeline run`` runs as a child
with a small streams.yaml; an observer follows its JSONL files and notes when each line appears. Line and frame are
joined by time stamp, and the join is proved by content: what a line says must be what a plain loop finds in that very
frame of the clip. At the end the cameras hang up first, so every frame that was sent must be in the report.

    python -m benchmarks.live --cameras 4 --seconds 30 --expect 'processed>=0.999' 'p50<=100' 'p99<=160'
    python -m benchmarks.live --cameras 32 --ask 2 --skip auto --seconds 600 --expect 'p99<=1000' 'rss_growth<=4'

``--peer`` runs a hand-made OpenCV loop on the same cameras, clip and network afterwards. Exit status 1: an expectation
is not met, or what was found is not what is in the frames.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cameras import camera_clip
from benchmarks.expectations import unmet
from benchmarks.live_run import Setting, opencv_loop, pipeline_run
from pipeline.host.caches import cache_folder

_UNITS = {
    "processed": ("frames processed / offered", ""),
    "fps": ("frames processed per second", ""),
    "p50": ("age of a result, p50", " ms"),
    "p90": ("age of a result, p90", " ms"),
    "p99": ("age of a result, p99", " ms"),
    "max": ("age of a result, max", " ms"),
    "growth": ("p50 of the last third less that of the first", " ms"),
    "fairness": ("fairness (Jain)", ""),
    "agreement": ("detections that are in the frames", ""),
    "cores": ("CPU, cores", ""),
    "camera_cores": ("CPU of the cameras, cores", ""),
    "observer_cores": ("CPU of the observer, cores", ""),
    "rss": ("memory at the end", " MiB"),
    "rss_growth": ("memory: last minute less minute 3", " MiB"),
    "threads": ("threads", ""),
    "reconnects": ("reconnects", ""),
    "stalls": ("stalls", ""),
    "decode_errors": ("decoding errors", ""),
    "come_back": ("first result after a returned camera's PLAY", " s"),
    "pause": ("from its return to that, the rest of a backoff step", " s"),
}


def show(name: str, figures: dict[str, Any]) -> None:
    print(f"\n{name}")
    for key, (label, unit) in _UNITS.items():
        if figures.get(key) is not None:
            print(f"  {label:<56} {figures[key]:>10.4g}{unit}")
    for key, value in figures.get("stages", {}).items():
        print(f"    {key:<20} p50 {value['p50_ms']:8.2f} ms   p99 {value['p99_ms']:8.2f} ms")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--fps", type=int, default=15, help="frames a second of each camera")
    parser.add_argument("--gop", type=int, default=15, help="frames from one key frame to the next")
    parser.add_argument("--ask", type=float, help="frames a second that are to be processed of each; default: all")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long is measured")
    parser.add_argument("--warm", type=float, default=4.0, help="seconds after the first results that do not count")
    parser.add_argument("--skip", choices=["none", "auto", "nonkey"], default="none")
    parser.add_argument("--parser", choices=["auto", "libav"], default="auto")
    parser.add_argument("--transport", choices=["tcp", "udp"], default="tcp")
    parser.add_argument("--batch", default="auto", help="batch.max_size")
    parser.add_argument("--wait", type=float, default=10.0, help="batch.max_wait_ms")
    parser.add_argument("--workers", default="auto", help="batch.workers")
    parser.add_argument("--come-back", action="store_true", help="afterwards cut the cameras off and let them return")
    parser.add_argument("--peer", action="store_true", help="also the hand-made loop")
    parser.add_argument("--expect", nargs="+", default=[], metavar="NAME<=NUMBER")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = parse()
    for wanted in options.expect:
        unmet({}, wanted, _UNITS)
    folder = cache_folder("bench")
    clip, model = camera_clip(folder, fps=options.fps, gop=options.gop)
    setting = Setting(clip, model, options)
    with tempfile.TemporaryDirectory() as place:
        runs = {"pipeline run": pipeline_run(setting, Path(place, "ours"))}
        if options.peer:
            runs["OpenCV loop"] = opencv_loop(setting, Path(place, "peer"))
    ours = runs["pipeline run"]
    faults = [fault for wanted in options.expect if (fault := unmet(ours, wanted, _UNITS)) is not None]
    faults += [f"{name}: its detections are not those of the frames" for name, run in runs.items() if run["wrong"]]
    faults += ours["faults"]
    if options.json:
        print(json.dumps({"options": vars(options), "runs": runs, "faults": faults}))
    else:
        rate = "all" if options.ask is None else f"{options.ask:g} a second"
        print(f"{options.cameras} cameras x {options.fps} fps, key frames each {options.gop}, {rate} asked for")
        for name, figures in runs.items():
            show(name, figures)
        if options.peer:
            peer = runs["OpenCV loop"]
            print(f"\n  ours / loop: frames {ours['fps'] / peer['fps']:.2f}, p99 {ours['p99'] / peer['p99']:.2f}")
        for fault in faults:
            print(f"NOT MET  {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
