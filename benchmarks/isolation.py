# SPDX-License-Identifier: Apache-2.0
"""What ``isolation: process`` costs a frame, and in memory: ``python -m benchmarks.isolation``.

The same cameras, read in a thread and in a process, one after the other in each round: CPU time of this process and of
the decoding one, the time from the end of decoding until the reader has the frame, and resident memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
from pathlib import Path

from benchmarks.cameras import Cameras, camera_clip
from pipeline import build
from pipeline.config import StreamConfig
from pipeline.threads import StopFlag
from pipeline.timing import cpu_ns, now_ns

TICK_S = 0.01
"""``/proc/PID/stat`` counts in hundredths of a second."""


def child_cpu_s(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def resident_mb(pid: int) -> tuple[float, float]:
    """Memory of a process: all of it, and what is its own alone, in 10^6 bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kb = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    return kb["Rss"] * 1024 / 1e6, (kb["Private_Clean"] + kb["Private_Dirty"]) * 1024 / 1e6


def look(url: str, isolation: str, frames: int) -> dict[str, float]:
    """Read so many frames, after some to warm up; figures per frame in ms, memory in MB."""
    config = StreamConfig.model_validate({"name": "gate", "source": url, "isolation": isolation})
    stream = build.feed(config)
    stop, found = StopFlag(), []
    stream.source.open(stop)
    try:
        for _ in range(frames // 5):
            stream.source.read()
        known = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()
        pids = [int(pid) for pid in known.split()]
        children = [pid for pid in pids if b"sources.isolation.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if bool(children) != (isolation == "process"):
            raise SystemExit(f"isolation: {isolation} has {len(children)} decoding processes")
        before, theirs = cpu_ns(), sum(child_cpu_s(pid) for pid in children)
        missed = 0
        for _ in range(frames):
            capture = stream.source.read()
            assert capture is not None
            missed += capture.missed
            found.append((now_ns() - capture.decoded_ns) / 1e6)
        own_ms = (cpu_ns() - before) / 1e6 / frames
        their_ms = (sum(child_cpu_s(pid) for pid in children) - theirs) * 1e3 / frames
        memory = [resident_mb(pid) for pid in children]
    finally:
        stop.set()
        stream.source.close()
    cuts = statistics.quantiles(found, n=100)
    figures = {"own_cpu_ms": own_ms, "child_cpu_ms": their_ms, "handed_p50_ms": cuts[49], "handed_p99_ms": cuts[98]}
    rss, private = (sum(each) for each in zip(*memory, strict=True)) if memory else (0.0, 0.0)
    return figures | {"missed": missed, "rss_mb": rss, "private_mb": private}


def main() -> None:
    """Print a line per size and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--heights", type=int, nargs="+", default=[360, 1080])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for height in options.heights:
            width = height * 16 // 9
            clip, _ = camera_clip(Path(folder), fps=30, gop=30, width=width, height=height)
            cameras = Cameras(clip, 1, 30.0, Path(folder, "log"))
            try:
                for _ in range(options.rounds):
                    for way in ("thread", "process"):
                        figures = look(cameras.urls[0], way, options.frames)
                        told = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
                        print(f"{width}x{height} {way}: {told}", flush=True)
            finally:
                cameras.close()


if __name__ == "__main__":
    main()
