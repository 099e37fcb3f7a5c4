# SPDX-License-Identifier: Apache-2.0
"""One run of ``benchmarks.live``: cameras, a program that looks at them, and what an observer saw of it."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.cameras import Cameras
from benchmarks.tail import Line, Tail
from pipeline.bench.agreement import compare
from pipeline.bench.child import CONFIDENCE
from pipeline.bench.plain import Boxes, load, loop
from pipeline.host.orphans import no_orphan

SIDE = 352
_START_S = 60.0
"""Longest until the first result of every camera."""
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Setting:
    """What every program is given."""

    clip: Path
    model: Path
    options: argparse.Namespace

    @cached_property
    def expected(self) -> list[Boxes]:
        """What is in each frame of the clip, as a plain loop finds it."""
        (found,) = loop([self.clip], load(self.model), SIDE, CONFIDENCE)
        return found


@dataclass
class Watch:
    """What was seen of a program from outside.

    Attributes:
        lines: all that it wrote.
        began_ns, ended_ns: of the window that counts.
        rss_mb: seconds into the window, and resident memory then; about once a second.
        cpu_s: of the program, the cameras and the observer, in the window.
    """

    lines: list[Line] = field(default_factory=list)
    began_ns: int = 0
    ended_ns: int = 0
    rss_mb: list[tuple[float, float]] = field(default_factory=list)
    threads: int = 0
    cpu_s: tuple[float, float, float] = (0.0, 0.0, 0.0)


def is_result(line: Line) -> bool:
    """Not an event."""
    return b'"detections":' in line.text or b'"boxes":' in line.text


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _status(pid: int, key: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split(f"{key}:")[1].split()[0])


def watch(tail: Tail, program: subprocess.Popen[Any], cameras: Cameras, setting: Setting) -> Watch:
    """Follow until the window has passed."""
    options = setting.options
    seen = Watch()
    started = time.monotonic()
    with_results: set[str] = set()
    while len(with_results) < options.cameras:
        if program.poll() is not None or time.monotonic() - started > _START_S:
            raise RuntimeError(f"{len(with_results)} of {options.cameras} cameras have results; see the log")
        seen.lines += (new := tail.lines(0.5))
        with_results |= {line.file for line in new if is_result(line)}
    warm = time.monotonic() + options.warm
    while (left := warm - time.monotonic()) > 0:
        seen.lines += tail.lines(left)
    pids = (program.pid, cameras.process.pid, os.getpid())
    before = [cpu_s(pid) for pid in pids]
    seen.began_ns = time.monotonic_ns()
    end = time.monotonic() + options.seconds
    next_look = 0.0
    while (left := end - time.monotonic()) > 0:
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + 1.0
            into = (time.monotonic_ns() - seen.began_ns) / 1e9
            seen.rss_mb.append((into, _status(program.pid, "VmRSS") / 1024))
            seen.threads = max(seen.threads, _status(program.pid, "Threads"))
        seen.lines += tail.lines(min(left, 1.0))
    seen.ended_ns = time.monotonic_ns()
    after = [cpu_s(pid) for pid in pids]
    seen.cpu_s = tuple(b - a for a, b in zip(before, after, strict=True))  # type: ignore[assignment]
    return seen


def drain(tail: Tail, seen: Watch, quiet_s: float = 1.0) -> None:
    """Until no more results come."""
    until = time.monotonic() + quiet_s
    while (left := until - time.monotonic()) > 0:
        seen.lines += (new := tail.lines(left))
        if any(map(is_result, new)):
            until = time.monotonic() + quiet_s


def pipeline_run(setting: Setting, folder: Path) -> dict[str, Any]:
    """``pipeline run`` on the cameras."""
    options = setting.options
    out = folder / "out"
    out.mkdir(parents=True)
    cameras = Cameras(setting.clip, options.cameras, options.fps, folder / "sent.log")
    stream = {"skip": options.skip, "parser": options.parser, "transport": options.transport, "fps": options.ask}
    config: dict[str, Any] = {
        "model": {"path": str(setting.model), "confidence": CONFIDENCE, "device": "cpu", "tuned": False},
        "batch": {"max_size": _number(options.batch), "max_wait_ms": options.wait, "workers": _number(options.workers)},
        "defaults": {key: value for key, value in stream.items() if value is not None},
        "streams": [{"name": url.rsplit("/", 1)[1], "source": url} for url in cameras.urls],
        "sinks": [{"type": "jsonl", "path": f"{out}/{{stream}}.jsonl"}],
    }
    (folder / "streams.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "pipeline", "run", str(folder / "streams.yaml"), "--json"]
    with Tail(out) as tail, (folder / "log").open("w") as log, (folder / "report").open("w") as report:
        program = subprocess.Popen(command, stderr=log, stdout=report, preexec_fn=no_orphan())
        try:
            seen = watch(tail, program, cameras, setting)
            cameras.close()
            drain(tail, seen)
            sent_log = cameras.sent()
            came_back = come_back(tail, cameras, folder, setting) if options.come_back else {}
            program.send_signal(signal.SIGTERM)
            program.wait(30)
        except BaseException:
            sys.stderr.write((folder / "log").read_text()[-4000:])
            raise
        finally:
            program.kill()
            cameras.kill()
    text = (folder / "log").read_text()
    told = json.loads((folder / "report").read_text())
    found: dict[str, list[tuple[int | None, int, Boxes]]] = defaultdict(list)
    for line in filter(is_result, seen.lines):
        record = json.loads(line.text)
        boxes = [(*found["box"], found["class_id"]) for found in record["detections"]]
        # With libavformat's parser the first frame has no stamp, so the others are off by what was guessed for it.
        by_stamp = options.parser == "auto" or options.skip != "none"
        number = sent_log[record["stream"]].find(record["pts"]) if by_stamp else record["frame"]
        found[record["stream"]].append((number, line.seen_ns, boxes))
    figures = evaluate(setting, seen, sent_log, found)
    if "streams" not in told:
        raise RuntimeError(f"no report: {told}")
    streams = told["streams"]
    figures["faults"] = []
    if not options.come_back and options.skip == "none":
        for camera, sent in sent_log.items():
            decoded = streams[camera]["frames"]["decoded"]
            if decoded != len(sent):
                figures["faults"].append(f"{camera}: {len(sent)} frames were sent, {decoded} decoded")
    for name, account in streams.items():
        counts = account["frames"]
        if counts["decoded"] != counts["processed"] + sum(counts["dropped"].values()) + counts["decimated"]:
            figures["faults"].append(f"{name}: its report does not balance")
    figures["reconnects"] = sum(account.get("reconnects", 0) for account in streams.values())
    figures["decode_errors"] = sum(account["frames"]["decode_errors"] for account in streams.values())
    figures["stalls"] = len(re.findall("stall", text))
    figures["stages"] = told["total"]["stages"]
    return figures | came_back


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def come_back(tail: Tail, cameras: Cameras, folder: Path, setting: Setting) -> dict[str, Any]:
    """Let the cameras return. The daemon pauses between its tries: from the return to the PLAY of the one that succeeds
    is the rest of a backoff step; from there to the first line is what the daemon takes."""
    options = setting.options
    away = time.monotonic() + 3.0
    while time.monotonic() < away:
        tail.lines(0.1)
    returned = Cameras(setting.clip, options.cameras, options.fps, folder / "again.log", cameras.port)
    up_ns = time.monotonic_ns()
    first: dict[str, int] = {}
    try:
        while len(first) < options.cameras and time.monotonic_ns() - up_ns < 60e9:
            for line in filter(is_result, tail.lines(0.5)):
                first.setdefault(line.file.removesuffix(".jsonl"), line.seen_ns)
    finally:
        returned.close()
    played = returned.played()
    names = [url.rsplit("/", 1)[1] for url in returned.urls]
    return {
        "come_back": max((first[name] - played[name]) / 1e9 if name in first else float("inf") for name in names),
        "pause": max((played[name] - up_ns) / 1e9 if name in played else float("inf") for name in names),
    }


def opencv_loop(setting: Setting, folder: Path) -> dict[str, Any]:
    """The hand-made loop on the same."""
    options = setting.options
    out = folder / "out"
    out.mkdir(parents=True)
    cameras = Cameras(setting.clip, options.cameras, options.fps, folder / "sent.log")
    command = [sys.executable, "-m", "benchmarks.opencv_loop", str(setting.model), str(SIDE), str(CONFIDENCE), str(out)]
    environment = {**os.environ, "OPENCV_FFMPEG_CAPTURE_OPTIONS": f"rtsp_transport;{options.transport}"}
    with Tail(out) as tail:
        program = subprocess.Popen(
            [*command, *cameras.urls], stdin=subprocess.PIPE, env=environment, preexec_fn=no_orphan()
        )
        try:
            seen = watch(tail, program, cameras, setting)
            cameras.close()
            drain(tail, seen)
        finally:
            program.kill()
            cameras.kill()
    sent_log = cameras.sent()
    found: dict[str, list[tuple[int | None, int, Boxes]]] = defaultdict(list)
    for line in seen.lines:
        record = json.loads(line.text)
        found[line.file.removesuffix(".jsonl")].append((record["number"], line.seen_ns, record["boxes"]))
    return evaluate(setting, seen, sent_log, found)


def evaluate(
    setting: Setting,
    seen: Watch,
    sent_log: dict[str, Any],
    found: dict[str, list[tuple[int | None, int, Boxes]]],
) -> dict[str, Any]:
    """Figures of the window. ``found``: per camera, per line, the number of the frame that it is of, when it was seen,
    and what it says."""
    options = setting.options
    seconds = (seen.ended_ns - seen.began_ns) / 1e9
    ages: list[tuple[int, float]] = []
    processed: list[int] = []
    ours: list[Boxes] = []
    theirs: list[Boxes] = []
    wrong = False
    for camera, sent in sent_log.items():
        lines = found.get(camera, [])
        numbers = [number for number, _, _ in lines]
        wrong |= None in numbers or len(set(numbers)) < len(numbers)
        counted = 0
        for number, seen_ns, boxes in lines:
            if number is None or number >= len(sent):
                wrong = True
                continue
            ours.append(boxes)
            theirs.append(setting.expected[sent.places[number]])
            if seen.began_ns <= sent.sent_ns[number] < seen.ended_ns:
                counted += 1
                ages.append((sent.sent_ns[number], (seen_ns - sent.sent_ns[number]) / 1e6))
        processed.append(counted)
    agreement = compare([ours], [theirs], 2.5).share
    ages.sort()
    values = np.array([age for _, age in ages])
    third = max(1, len(values) // 3)
    offered = [
        sum(seen.began_ns <= at < seen.ended_ns for at in sent.sent_ns)
        if options.ask is None
        else options.ask * seconds
        for sent in sent_log.values()
    ]
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    at, rss = np.array(seen.rss_mb).T
    minute_3 = rss[(at >= 120) & (at < 180)]
    total = sum(processed)
    return {
        "processed": total / sum(offered),
        "fps": total / seconds,
        "p50": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "max": float(values.max()),
        "growth": float(np.median(values[-third:]) - np.median(values[:third])),
        "fairness": total**2 / (len(processed) * sum(count**2 for count in processed)),
        "agreement": agreement,
        "wrong": bool(wrong or agreement < 0.99),
        "cores": seen.cpu_s[0] / seconds,
        "camera_cores": seen.cpu_s[1] / seconds,
        "observer_cores": seen.cpu_s[2] / seconds,
        "rss": float(rss[-5:].mean()),
        "rss_growth": float(rss[at >= seconds - 60].mean() - minute_3.mean()) if seconds >= 240 else None,
        "threads": seen.threads,
    }
