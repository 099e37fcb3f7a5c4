# SPDX-License-Identifier: Apache-2.0
"""Does the schedule keep its promise? ``pipeline run`` on paced recordings, measured from outside, ratios of one run.

First the capacity of this machine: the same streams and model, unpaced. Then cameras are played by recordings that are
paced (``pace: realtime``, ``policy: freshest``):

- ``live``: 8 of them at a load that can be served. How old and how unsteady are results, against the stages' medians?
- ``steady``: the same with ``playout_delay_ms: p90``: results are held until their time, and leave more evenly.
  ``steady.p99_over_live`` is against the medians of ``live``, in which nothing is held.
- ``overload``: 8 of them that together offer three times the capacity. How old is a result, does it grow, is it fair?
  Then all but one end: how soon is every frame of that one served again (``recovery``)?
- ``weighted``: the same with weights 1 to 4.

An observer follows the JSONL files and notes when a line can be read. A frame counts as captured when it was due by the
recording's own time stamps, whether or not anybody was there to read it. Detections are compared with a plain loop's,
frame by frame, before a figure is worked out.

    python -m benchmarks.schedule --expect 'live.p99_over_stages<=3' 'overload.p95_over_bound<=1'

Exit status 1: an expectation is not met, or a run proves nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks import schedule_figures as figures
from benchmarks.cameras import camera_clip
from benchmarks.copies import copy_at_rate
from benchmarks.expectations import unmet
from benchmarks.live_run import SIDE
from benchmarks.schedule_run import Feed, Workload, play
from pipeline.bench.child import CONFIDENCE
from pipeline.bench.plain import load, loop
from pipeline.bench.run import measure
from pipeline.host.caches import cache_folder

Figures = dict[str, float]
PHASES = ("live", "steady", "overload", "weighted")
WARM_S = 3.0
"""What is left out at the beginning of a run."""
FALL_S = 9.0
"""How long one stream goes on when the others have ended."""
_STAGES = ("decode", "preprocess", "queue", "infer", "postprocess", "follow", "sink")
LABELS = {
    "capacity.fps": ("frames per second, unpaced", ""),
    "capacity.batch": ("service time of a batch, unpaced", " ms"),
    "capacity.cpu": ("CPU per frame, unpaced", " ms"),
    "live.load": ("frames processed / capacity", ""),
    "live.processed": ("frames processed / offered", ""),
    "live.dropped": ("frames dropped", ""),
    "live.p50": ("age of a result, p50", " ms"),
    "live.p99": ("age of a result, p99", " ms"),
    "live.max": ("age of a result, max", " ms"),
    **{f"live.median_{stage}": (f"  median of {stage}", " ms") for stage in _STAGES},
    "live.stages": ("sum of the medians", " ms"),
    "live.p99_over_stages": ("p99 / sum of the medians", ""),
    "live.p99_over_work": ("p99 / sum of the medians without waiting", ""),
    "live.jitter": ("jitter added (standard deviation)", " ms"),
    "live.jitter_worst": ("jitter added, the stream with most", " ms"),
    "live.jitter_delay": ("standard deviation of the ages, the most", " ms"),
    "live.floor_jitter": ("jitter of a thread that only wakes up", " ms"),
    "live.cores": ("CPU, cores", ""),
    "steady.delay": ("playout delay at the end, mean of the streams", " ms"),
    "steady.dropped": ("frames dropped", ""),
    "steady.late": ("results ready after their time", ""),
    "steady.p50": ("age of a result, p50", " ms"),
    "steady.p99": ("age of a result, p99", " ms"),
    "steady.max": ("age of a result, max", " ms"),
    "steady.p99_over_live": ("p99 / sum of the medians of `live`", ""),
    "steady.jitter": ("jitter added (standard deviation)", " ms"),
    "steady.jitter_worst": ("jitter added, the stream with most", " ms"),
    "steady.jitter_delay": ("standard deviation of the ages, the most", " ms"),
    "steady.floor_jitter": ("jitter of a thread that only wakes up", " ms"),
    "steady.cores": ("CPU, cores", ""),
    "overload.offered": ("frames offered per second", ""),
    "overload.load": ("offered / capacity", ""),
    "overload.fps": ("frames processed per second", ""),
    "overload.kept": ("processed / capacity", ""),
    "overload.p50": ("age of a result, p50", " ms"),
    "overload.p95": ("age of a result, p95", " ms"),
    "overload.p99": ("age of a result, p99", " ms"),
    "overload.batch": ("service time of a batch, median", " ms"),
    "overload.interval": ("interval between frames", " ms"),
    "overload.p95_over_bound": ("p95 / (2 x (batch + interval))", ""),
    "overload.growth": ("median age, last third / first third", ""),
    "overload.fairness": ("fairness (Jain)", ""),
    "overload.recovery": ("all frames served again after", " s"),
    "overload.cores": ("CPU, cores", ""),
    "weighted.fps": ("frames processed per second", ""),
    "weighted.p95": ("age of a result, p95", " ms"),
    "weighted.shares": ("largest deviation from a share", ""),
}


def capacity(workload: Workload, options: argparse.Namespace, folder: Path) -> Figures:
    """Of this machine with this workload."""
    folder.mkdir()
    copy_at_rate(workload.clip, folder / "long.mp4", fps=15, frames=6000)
    streams = [{"name": f"cam{number}", "source": str(folder / "long.mp4")} for number in range(options.streams)]
    settings = workload.settings(streams, folder / "out")
    found = measure({"candidate": "capacity", "config": settings, "seconds": options.unpaced, "warm_s": 2.0})
    return {"fps": found["fps"], "batch": found["batch_service_ms"], "cpu": found["cpu_ms_per_frame"]}


def live(workload: Workload, options: argparse.Namespace, folder: Path, fps: float) -> tuple[Figures, list[str]]:
    """Cameras that can be served."""
    return _served(workload, options, folder, fps, {})


def steady(workload: Workload, options: argparse.Namespace, folder: Path, fps: float) -> tuple[Figures, list[str]]:
    """The same, their results held until their time."""
    found, wrong = _served(workload, options, folder, fps, {"playout_delay_ms": options.delay})
    told = [name.removeprefix("steady.") for name in LABELS if name.startswith("steady.")]
    return {name: found[name] for name in told if name in found}, wrong


def _served(
    workload: Workload, options: argparse.Namespace, folder: Path, fps: float, terms: dict[str, Any]
) -> tuple[Figures, list[str]]:
    each = options.load * fps / options.streams
    feeds = [
        Feed(
            f"cam{number}",
            each,
            options.live + WARM_S + 1.0,
            0.0 if options.together else _phase(number, options),
            terms,
        )
        for number in range(options.streams)
    ]
    seen = play(workload, feeds, folder)
    found = figures.live(seen, seen.window(WARM_S, options.live))
    dropped = sum(sum(one["frames"]["dropped"].values()) for one in seen.report["streams"].values())
    cores = seen.cpu_s / (options.live + WARM_S + 1.0)
    found |= {"load": found["fps"] / fps, "dropped": float(dropped), "cores": cores}
    held = [one["playout"] for one in seen.report["streams"].values() if "playout" in one]
    if held:
        found["delay"] = sum(one["delay_ms"] for one in held) / len(held)
        found["late"] = sum(one["late"] for one in held) / sum(one["results"] for one in held)
    return found, figures.faults(seen)


def overload(workload: Workload, options: argparse.Namespace, folder: Path, fps: float) -> tuple[Figures, list[str]]:
    """Equal cameras that cannot all be served, until all but one end."""
    each = options.offered * fps / options.streams
    whole = WARM_S + options.overload
    feeds = [
        Feed(f"cam{number}", each, whole + (FALL_S if number == 0 else 0.0), _phase(number, options))
        for number in range(options.streams)
    ]
    seen = play(workload, feeds, folder)
    found = figures.overload(seen, seen.window(WARM_S, options.overload - 0.5))
    fell_s = max(float(seen.streams[feed.name].offered_s[-1]) for feed in feeds[1:])
    return found | {
        "load": found["offered"] / fps,
        "kept": found["fps"] / fps,
        "recovery": figures.recovery_s(seen.streams["cam0"], fell_s),
    }, figures.faults(seen)


def weighted(workload: Workload, options: argparse.Namespace, folder: Path, fps: float) -> tuple[Figures, list[str]]:
    """The same with different weights."""
    each = options.offered * fps / options.streams
    feeds = [
        Feed(f"cam{n}", each, WARM_S + options.weighted, _phase(n, options), {"weight": 1 + n % 4})
        for n in range(options.streams)
    ]
    seen = play(workload, feeds, folder)
    return figures.overload(seen, seen.window(WARM_S, options.weighted - 0.5)), figures.faults(seen)


def _phase(number: int, options: argparse.Namespace) -> float:
    """Cameras know nothing of each other: their frames are spread over an interval, in no order (golden ratio)."""
    return number * 0.618 % 1.0


def delay(text: str) -> str | float:
    """A ``playout_delay_ms``."""
    return text if text.isidentifier() else float(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--load", type=float, default=0.65, help="of the capacity, in the live run")
    parser.add_argument("--offered", type=float, default=3.0, help="of the capacity, in the others")
    parser.add_argument("--unpaced", type=float, default=8.0, help="seconds for the capacity, 10 at most")
    parser.add_argument("--live", type=float, default=20.0, help="seconds of the live run that count")
    parser.add_argument(
        "--delay", type=delay, default="p90", help="playout_delay_ms of the steady run: p50 to p99, auto, or ms"
    )
    parser.add_argument("--overload", type=float, default=30.0, help="seconds of the overload that count")
    parser.add_argument("--weighted", type=float, default=15.0, help="seconds with weights that count")
    parser.add_argument("--together", action="store_true", help="live: all cameras send their frames at the same time")
    parser.add_argument("--only", nargs="+", choices=PHASES, default=PHASES, help="leave the other runs out")
    parser.add_argument("--capacity", type=float, help="frames per second, in the place of a measurement")
    parser.add_argument("--batch", type=json.loads, default={}, help="section batch of streams.yaml, as JSON")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave what was written in this new folder")
    parser.add_argument("--expect", nargs="+", default=[], metavar="NAME<=NUMBER")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def show(found: Mapping[str, float]) -> None:
    before = ""
    for name, (label, unit) in LABELS.items():
        if name in found:
            phase = name.partition(".")[0]
            if phase != before:
                print(f"\n{phase}")
            before = phase
            print(f"  {label:<48} {found[name]:>10.4g}{unit}")


def main() -> None:
    options = parse()
    for wanted in options.expect:
        unmet({}, wanted, LABELS)
    clip, model = camera_clip(cache_folder("bench"), fps=15, gop=15)
    (expected,) = loop([clip], load(model), SIDE, CONFIDENCE)
    workload = Workload(clip, expected, model, options.batch)
    phases: dict[str, Callable[..., tuple[Figures, list[str]]]] = {
        "live": live, "steady": steady, "overload": overload, "weighted": weighted,
    }  # fmt: skip
    found: dict[str, Any] = {}
    faults: list[str] = []
    with tempfile.TemporaryDirectory() if options.keep is None else nullcontext(options.keep) as place:
        Path(place).mkdir(exist_ok=True)
        if options.capacity is None:
            unpaced = capacity(workload, options, Path(place, "capacity"))
        else:
            unpaced = {"fps": options.capacity}
        found |= {f"capacity.{name}": value for name, value in unpaced.items()}
        for phase in options.only:
            own, wrong = phases[phase](workload, options, Path(place, phase), unpaced["fps"])
            found |= {f"{phase}.{name}": value for name, value in own.items()}
            faults += [f"{phase}: {fault}" for fault in wrong]
    if "live.stages" in found and "steady.p99" in found:
        found["steady.p99_over_live"] = found["steady.p99"] / found["live.stages"]
    faults += [fault for wanted in options.expect if (fault := unmet(found, wanted, LABELS)) is not None]
    if options.json:
        print(json.dumps({"figures": found, "faults": faults}))
    else:
        show(found)
        for fault in faults:
            print(f"NOT MET  {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
