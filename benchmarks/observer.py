# SPDX-License-Identifier: Apache-2.0
"""Is what the tracker says true? An observer who knows nothing of it looks at the same frames.

Every frame carries its number and the time of its making in its pixels (:mod:`tests.stamps`). They go through the whole
flow: threads, preprocessing, the shared batched detector, the sink, which reads the stamp back and looks at its own
clock. Checked first: each picture that comes out is the frame that it is said to be, and as many came out as the
tracker counted. Then the ages of the last ten seconds, by the observer and by the tracker, at three loads:

- **pattern**: cameras of this process, where a frame is made when it is handed over;
- **rtsp**: cameras of another process, H.264 over TCP; in the pixels is when a frame was due to leave the camera, and
  the camera writes down when it did. So the observer also sees what lies before the tracker's first mark: the network,
  and a packet that waits until its reader has a core and the interpreter. What of that the tracker knows from time
  stamps (``camera.behind`` in the report) is beside it.

    python -m benchmarks.observer --expect 'p50<=1' 'p99<=3'

``p50`` and ``p99`` are the largest differences of all runs of ``--of``, milliseconds, between the tracker and the time
in the pixels; ``p50_left`` and ``p99_left`` without what the camera was late by, as its log says.
Exit status 1: an expectation is not met, or a frame is not what it is said to be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.cameras import Cameras
from benchmarks.expectations import unmet
from pipeline import build
from pipeline.bench.material import Material, make
from pipeline.config.detection import ModelConfig
from pipeline.config.streams import StreamConfig
from pipeline.flow import Pipeline
from pipeline.flow.lanes import Terms
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.host.caches import cache_folder
from pipeline.ledger import StreamLedger
from pipeline.sinks import CallbackSink
from pipeline.stages import Letterbox
from pipeline.timing import Mark, now_ns
from tests.stamps import Observer, Seen, StampedSource

LOADS = {"light": 0.3, "near capacity": 0.8, "overloaded": 3.0}
WINDOW_S = 10
PERCENTS = {"p50": 50, "p99": 99}
WARM_S, WARM_FRAMES = 4.0, 30
"""Until models are warm, and the habits of an RTSP camera known (design/live.md)."""
BATCH = 4
INPUT = 640
"""Side of the network's input: so large that the network is what cameras overload, not the decoders."""
_FOREVER = 1 << 30


def stamped(streams: int, fps: float, frames: int = _FOREVER) -> list[Stream]:
    """Cameras of this process; ``fps`` 0: as fast as their frames are taken."""
    terms = Terms(policy="freshest" if fps else "every_frame")
    return [
        Stream(
            StampedSource(fps, frames, phase=number / streams),
            [Letterbox()],
            StreamLedger(f"cam{number}", live=bool(fps)),
            terms=terms,
        )
        for number in range(streams)
    ]


class Run:
    """One pipeline with an observer at its only sink."""

    def __init__(self, model: Path, workers: int) -> None:
        self.observer = Observer()
        detector = build.detector(ModelConfig(path=str(model)), max_batch=BATCH)
        sink = CallbackSink(self.observer.see, wants_pictures=True)
        options = FlowOptions(batch_size=BATCH, fixed_batch=False, workers=workers, outlet_policy="freshest")
        self._pipeline = Pipeline(detector, [sink], options)
        self.ledger = self._pipeline.ledger

    def during(self, streams: Sequence[Stream], seconds: float, look: Callable[[], Any]) -> Any:
        """Run for so long, look while it runs, and stop."""
        pipeline = self._pipeline
        pipeline.start()
        try:
            for stream in streams:
                pipeline.add(stream)
            threading.Event().wait(seconds)
            found = look()
            pipeline.stop()
            while not pipeline.join(1.0):
                pass
        finally:
            pipeline.abort()
            pipeline.detector.close()
        return found

    def faults(self, report: dict[str, Any]) -> list[str]:
        """What is not as the report of the run says."""
        seen = len(self.observer.seen)
        counted = report["total"]["end_to_end"]["count"]
        lost = sum(report["sinks"]["callback"]["lost"].values())
        faults = self.observer.mistaken()
        if not seen == counted - lost == report["frames"] - lost:
            faults.append(f"{seen} frames were seen, {counted} counted, {report['frames']} published, {lost} lost")
        return faults


def capacity(model: Path, streams: int, workers: int) -> float:
    """Frames per second, of all streams together, when frames are always there: the best of some seconds, since other
    work on the machine only takes away."""
    run = Run(model, workers)

    def rate() -> float:
        before, began_ns = len(run.observer.seen), now_ns()
        threading.Event().wait(1.0)
        return (len(run.observer.seen) - before) / (now_ns() - began_ns) * 1e9

    found: float = run.during(stamped(streams, 0), 2.0, lambda: max(rate() for _ in range(4)))
    return found


class Lately(NamedTuple):
    """What the tracker says of the last ten seconds up to ``at_ns``."""

    at_ns: int
    told: dict[str, Any]

    @classmethod
    def of(cls, run: Run, streams: Sequence[Stream], fps: float) -> Lately:
        """Run, warm up, and ask."""

        def look() -> Lately:
            at_ns = now_ns()
            return cls(at_ns, run.ledger.recent(at_ns, WINDOW_S)["end_to_end"])

        found: Lately = run.during(streams, max(WARM_S, WARM_FRAMES / fps) + WINDOW_S, look)
        return found

    def has(self, one: Seen) -> bool:
        """Whether the frame is among them."""
        return self.at_ns // 10**9 - WINDOW_S < one.seen_ns // 10**9 and one.seen_ns <= self.at_ns


def pattern(model: Path, options: argparse.Namespace, fps: float) -> dict[str, Any]:
    """Cameras of this process: frames leave them when they are made."""
    run = Run(model, options.workers)
    lately = Lately.of(run, stamped(options.streams, fps), fps)
    return compared(run, lately, {(one.stream, one.stamp.number): one.stamp.made_ns for one in run.observer.seen})


def rtsp(model: Path, options: argparse.Namespace, fps: float) -> dict[str, Any]:
    """Cameras of another process, opened as the daemon does."""
    run = Run(model, options.workers)
    with tempfile.TemporaryDirectory() as folder:
        cameras = Cameras(None, options.streams, fps, Path(folder, "sent.log"))
        try:
            configs = [
                StreamConfig(name=url.rpartition("/")[2], source=url, fps=None, isolation=options.isolation)
                for url in cameras.urls
            ]
            lately = Lately.of(run, [build.feed(config) for config in configs], fps)
        finally:
            cameras.close()
        return compared(run, lately, cameras.sent_ns())


def compared(run: Run, lately: Lately, left_ns: Mapping[tuple[str, int], int]) -> dict[str, Any]:
    """Ages of the same frames by both, milliseconds. ``left_ns``: when each left its camera, by name and number."""
    everything = run.observer.seen
    seen = [one for one in everything if lately.has(one)]
    left = np.array([left_ns[one.stream, one.stamp.number] for one in seen])
    made, read, ended = (
        np.array(column) for column in zip(*((one.stamp.made_ns, one.trace[Mark.READ], one.seen_ns) for one in seen),
                                           strict=True)
    )  # fmt: skip
    report = run.ledger.as_dict()
    figures: dict[str, Any] = {
        "frames": len(seen),
        "told_frames": lately.told["count"],
        "dropped": sum(sum(stream["frames"]["dropped"].values()) for stream in report["streams"].values()),
        "camera_late": percentiles(left - made),
        "until_read": percentiles(read - left),
        "behind": _behind(everything, report),
        "faults": run.faults(report),
    }
    for key, since_left, since_made in zip(
        PERCENTS, percentiles(ended - left).values(), percentiles(ended - made).values(), strict=True
    ):
        told = lately.told[f"{key}_ms"]
        figures[key] = {
            "made": since_made,
            "left": since_left,
            "tracker": told,
            "apart": told - since_made,
            "apart_left": told - since_left,
        }
    return figures


def percentiles(values_ns: npt.NDArray[np.int64]) -> dict[str, float]:
    """In milliseconds."""
    found = np.percentile(values_ns, list(PERCENTS.values()), method="inverted_cdf") / 1e6
    return dict(zip(PERCENTS, found.tolist(), strict=True))


def _behind(seen: Sequence[Seen], report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What lies before the first mark, above its least, of the whole run: by the observer, and by the tracker, which
    knows it from time stamps; means over all streams."""
    before: dict[str, list[int]] = {}
    for one in seen:
        before.setdefault(one.stream, []).append(one.trace[Mark.READ] - one.stamp.made_ns)
    ours = [percentiles(np.array(each) - min(each)) for each in before.values()]
    told = [stream["camera"]["behind"] for stream in report["streams"].values()]
    return {
        key: {
            "observer": float(np.mean([each[key] for each in ours])),
            "tracker": float(np.mean([each[f"{key}_ms"] for each in told])),
        }
        for key in PERCENTS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", choices=["pattern", "rtsp", "both"], default="both")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--isolation", choices=["thread", "process"], default="thread", help="where rtsp is read")
    parser.add_argument("--workers", type=int, default=1, help="detect threads: a core is left for the cameras")
    parser.add_argument("--expect", nargs="+", default=[], metavar="NAME<=NUMBER")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    _, model = make(Material(files=0, input=INPUT), cache_folder("bench"))
    most = capacity(model, options.streams, options.workers)
    runs: dict[str, dict[str, Any]] = {}
    for kind in (pattern, rtsp) if options.of == "both" else (KINDS[options.of],):
        for name, load in LOADS.items():
            fps = round(most * load / options.streams, 1)
            runs[f"{kind.__name__}, {name}"] = {"fps": fps * options.streams, **kind(model, options, fps)}
    worst = {
        name.replace("apart", key): max(abs(run[key][name]) for run in runs.values())
        for key in PERCENTS
        for name in ("apart", "apart_left")
    }
    faults = [f"{name}: {fault}" for name, run in runs.items() for fault in run["faults"]]
    faults += [f"{name}: no frame was dropped" for name, run in runs.items() if "over" in name and not run["dropped"]]
    faults += [fault for wanted in options.expect if (fault := unmet(worst, wanted, worst)) is not None]
    if options.json:
        print(json.dumps({"options": vars(options), "capacity_fps": most, "runs": runs, "faults": faults}))
    else:
        show(runs, most)
        for fault in faults:
            print(f"NOT MET  {fault}")
    sys.exit(bool(faults))


def show(runs: dict[str, dict[str, Any]], most: float) -> None:
    print(f"capacity {most:.0f} frames per second; ages in ms")
    for name, run in runs.items():
        print(f"\n{name}: {run['fps']:.0f} frames per second offered, {run['frames']} seen, {run['dropped']} dropped")
        print(
            "       by the pixels   by the tracker    apart   camera late   apart without   until read   behind, told"
        )
        for key in PERCENTS:
            ages, behind = run[key], run["behind"][key]
            print(
                f"  {key} {ages['made']:14.2f} {ages['tracker']:16.2f} {ages['apart']:+8.2f}"
                f" {run['camera_late'][key]:13.2f} {ages['apart_left']:+15.2f} {run['until_read'][key]:12.2f}"
                f" {behind['observer']:8.2f}, {behind['tracker']:.2f}"
            )


KINDS = {"pattern": pattern, "rtsp": rtsp}


if __name__ == "__main__":
    main()
