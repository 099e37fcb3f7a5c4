# SPDX-License-Identifier: Apache-2.0
"""What the HTTP server's answers take while the pipeline is loaded, and what a dashboard in a browser costs it.

First the capacity of this machine with these streams is measured (:mod:`pipeline.bench.capacity`). Then a daemon runs
test patterns, once for each case:

- ``loaded``: they offer a share of the capacity (``--load``), as a machine does that was dimensioned well;
- ``saturated``: they offer more than the detector can serve (``--fps`` each).

In each case the answers are verified first: all streams are there, what ``/metrics`` counts lies between what
``/api/streams`` counts before and after, and under ``loaded`` what is offered is processed. Then another process asks:
at odd times each route that has figures, after pauses of no rhythm and for long enough for a 99th percentile; with
``--first``, each of them after more than a minute in which nobody asked anything, so that the answer has to be made;
other rates are for one route after the other, as scrapers and dashboards ask. Then a headless Chromium opens the
dashboard, without and with the live view, and closes it again, in turn. The kernel knows the server's threads by name,
so their CPU time is exact, also while the detector takes all that is left. Beside it stands the CPU time of the whole
process, whose difference means something only where the detector is not saturated.

    python -m benchmarks.web [--streams 8] [--fps 15] [--only loaded saturated] [--cold 300] [--rates 4 35]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.web_clients import Asked, asked_elsewhere
from pipeline.bench.run import measure
from pipeline.host.orphans import no_orphan

CASES = ("loaded", "saturated")
WANTED_MS = 20.0
SERVED = 0.95
"""Of what is offered, at least, where it is to be served."""
LATEST_START_S = 120.0


def settings(folder: Path, streams: int, fps: float) -> dict[str, Any]:
    """Contents of a streams.yaml."""
    return {
        "model": {"path": "builtin:people"},
        "defaults": {"policy": "freshest", "pace": "realtime"},
        "streams": [
            {"name": f"s{i}", "source": f"pattern:?size=640x360&fps={fps:.4g}&people=1"} for i in range(streams)
        ],
        "sinks": [{"type": "jsonl", "path": str(folder / "{stream}.jsonl")}],
    }


def capacity(folder: Path, options: argparse.Namespace) -> float:
    """Frames per second that this machine can process of these streams."""
    config = settings(folder, options.streams, options.fps)
    found = measure({"candidate": "capacity", "config": config, "seconds": options.unpaced, "warm_s": 2.0})
    return float(found["fps"])


@contextmanager
def daemon(folder: Path, streams: int, fps: float, port: int) -> Iterator[tuple[int, str]]:
    """A daemon with ``streams`` patterns; its process id and where it serves."""
    document = settings(folder, streams, fps) | {"server": {"listen": f"127.0.0.1:{port}"}}
    (folder / "streams.yaml").write_text(yaml.safe_dump(document))
    log = folder / "log"
    with log.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", str(folder / "streams.yaml")],
            stderr=err, stdout=err, preexec_fn=no_orphan(),
        )  # fmt: skip
    try:
        until = time.monotonic() + LATEST_START_S
        while True:
            found = re.search(r"serving http://(\S+)/", log.read_text())
            with suppress(AssertionError, OSError):
                if found is not None and Asked(found[1]).get("/ready"):
                    break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, "never ready"
            time.sleep(0.1)
        yield process.pid, found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def verify(host: str, streams: int) -> tuple[float, float]:
    """That the answers are whole and agree with each other; results per second, and the share of frames not lost."""
    asked = Asked(host)

    def counts() -> tuple[dict[str, int], int, int]:
        told = json.loads(asked.get("/api/streams"))["streams"]
        frames = {name: stream["frames"] for name, stream in told.items()}
        lost = sum(sum(each["dropped"].values()) for each in frames.values())
        decoded = sum(each["decoded"] for each in frames.values())
        return {name: each["processed"] for name, each in frames.items()}, decoded, lost

    (before, decoded_before, lost_before), since = counts(), time.monotonic()
    assert len(before) == streams, before
    time.sleep(2.5)  # answers may be a second old, or two
    counted: dict[str, float] = {}
    for family in text_string_to_metric_families(asked.get("/metrics").decode()):
        if family.name == "pipeline_frames":
            counted = {s.labels["stream"]: s.value for s in family.samples if s.labels["outcome"] == "processed"}
    time.sleep(2.5)
    (after, decoded, lost), passed_s = counts(), time.monotonic() - since
    assert all(before[name] <= counted[name] <= after[name] for name in before), (before, counted, after)
    report = json.loads(asked.get("/api/report"))
    assert set(report["streams"]) == set(before)
    one = json.loads(asked.get("/api/streams/s0"))
    assert one["name"] == "s0"
    assert set(one["stages"]) >= {"queue", "infer", "sink"}
    kept = 1 - (lost - lost_before) / max(1, decoded - decoded_before)
    return (sum(after.values()) - sum(before.values())) / passed_s, kept


def cpu_s(pid: int) -> dict[str, float]:
    """Seconds of CPU so far: of the whole process, and of its server's threads."""
    whole = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    told = {"process": (int(whole[11]) + int(whole[12])) / os.sysconf("SC_CLK_TCK"), "server": 0.0}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            if (task / "comm").read_text().startswith("web"):
                told["server"] += int((task / "schedstat").read_text().split()[0]) / 1e9
    return told


def per_cent(pid: int, seconds: float) -> dict[str, float]:
    """CPU time in per cent of one core over ``seconds``."""
    before, since = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    after, passed_s = cpu_s(pid), time.monotonic() - since
    return {key: 100 * (after[key] - before[key]) / passed_s for key in before}


def dashboard(pid: int, host: str, streams: int, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Mean CPU by what somebody looks at, the ways taken in turn."""
    from tests.chromium import browser

    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as page:

        def nothing() -> None:
            page.go("about:blank")
            page.until("location.href === 'about:blank'")

        def table() -> None:
            page.look(1280, 800)
            page.go(f"http://{host}/")
            page.until(f"document.querySelectorAll('#rows tr').length === {streams}", 60)

        def view() -> None:
            table()
            page.run("document.querySelector('#rows button').click()")
            page.until("document.getElementById('picture').naturalWidth > 0", 60)

        ways: dict[str, Callable[[], None]] = {"nobody": nothing, "dashboard": table, "live view": view}
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, begin in ways.items():
                begin()
                time.sleep(1)
                found[way].append(per_cent(pid, seconds))
        return {way: _mean(all_of_it) for way, all_of_it in found.items()}


def _mean(told: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(one[key] for one in told) / len(told) for key in told[0]}


def show(rate: float, took: dict[str, list[float]]) -> None:
    """A line per route."""
    how = f"{rate:g} requests/s" if rate > 0 else "after a minute" if rate else "at odd times"
    print(f"{how:18}{'asked':>7}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for route, times in (*took.items(), ("all", [each for times_ in took.values() for each in times_])):
        p50, p99 = np.percentile(times, (50, 99))
        late = "" if p99 < WANTED_MS else f"  p99 over {WANTED_MS:g}"
        print(f"{route:18}{len(times):7}{p50:9.1f}{p99:9.1f}{max(times):9.1f}{late}")


def case(name: str, fps: float, options: argparse.Namespace, folder: Path) -> None:
    """One daemon: verified, asked, and looked at."""
    folder.mkdir()
    with daemon(folder, options.streams, fps, options.port) as (pid, host):
        time.sleep(options.warm)
        before, since = cpu_s(pid)["process"], time.monotonic()
        (results, kept), offered = verify(host, options.streams), options.streams * fps
        cores = (cpu_s(pid)["process"] - before) / (time.monotonic() - since)
        print(f"\n{name}: {options.streams} streams, {offered:.1f} frames/s offered, {results:.1f} results/s, ", end="")
        print(f"{cores:.2f} cores in use; answers agree", flush=True)
        assert name != "loaded" or kept >= SERVED, f"it cannot serve what is offered: {1 - kept:.0%} lost"
        for rate, seconds in (
            (0.0, options.cold),
            (-1.0, options.first),
            *((r, options.seconds) for r in options.rates),
        ):
            if seconds:
                show(rate, asked_elsewhere(host, seconds, rate))
        if options.rounds and shutil.which("chromium"):
            looks = dashboard(pid, host, options.streams, options.rounds, options.look)
            print(f"{'who looks':18}{'server, % of a core':>20}{'whole process':>15}")
            for way, told in looks.items():
                print(f"{way:18}{told['server']:20.2f}{told['process']:15.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--fps", type=float, default=15.0, help="offered by each stream where they saturate it")
    parser.add_argument("--load", type=float, default=0.65, help="of the capacity, where they do not")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, help="leave the other case out")
    parser.add_argument("--capacity", type=float, help="frames per second, in the place of a measurement")
    parser.add_argument("--unpaced", type=float, default=8.0, help="seconds for the capacity, 10 at most")
    parser.add_argument("--cold", type=float, default=300.0, help="seconds of asking at odd times: 100 answers a route")
    parser.add_argument("--first", type=float, default=0.0, help="seconds of asking once a minute, for all routes 250")
    parser.add_argument("--seconds", type=float, default=30.0, help="of asking, at each rate")
    parser.add_argument("--rates", type=float, nargs="*", default=[4.0, 35.0], metavar="N", help="requests a second")
    parser.add_argument("--rounds", type=int, default=2, help="of looking, 0: no browser")
    parser.add_argument("--look", type=float, default=8.0, metavar="S", help="how long somebody looks each time")
    parser.add_argument("--warm", type=float, default=10.0, metavar="S", help="before anything is measured")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-web-"))
    try:
        if "loaded" in options.only and options.capacity is None:
            options.capacity = capacity(folder, options)
            print(f"capacity: {options.capacity:.1f} frames/s")
        for name in options.only:
            fps = options.fps if name == "saturated" else options.load * options.capacity / options.streams
            case(name, fps, options, folder / name)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
