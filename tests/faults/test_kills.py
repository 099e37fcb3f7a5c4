# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at moments of chance: two hundred times on the sinks alone, ten times on the daemon. What was written is
there, in order and whole, but for the last line; videos play up to the stated loss."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.frame import Detections, Picture, Result, StreamInfo
from pipeline.sinks import CsvSink, JsonlSink, VideoSink
from pipeline.sinks.record_file import Rotate
from tests.daemons import GOP_OF_A_SECOND, config
from tests.media import Media, media
from tests.models import Cells, save
from tests.processes import TRACES, Running, awaited, daemon

__all__ = ["daemon", "media"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FPS = 10
LOOK_AHEAD = 5
LABELS = {0: "person"}
FOUND = Detections(np.full((3, 4), 12.5, np.float32), np.full(3, 0.5, np.float32), np.zeros(3, np.int64))
NOISE = np.random.default_rng(0).integers(60, 200, (48, 64), np.uint8)
CHROMA = np.full((24, 32), 128, np.uint8)


def write_for_ever(folder: Path, first: int, report: int) -> None:
    """Three sinks; each frame that all of them have is a byte for ``report``."""
    sinks = (
        JsonlSink(folder / "{stream}.jsonl", mode="append", run_id="r", rotate=Rotate(max_mb=0.05, keep=1000)),
        CsvSink(folder / "{stream}.csv", mode="append"),
        VideoSink(folder / "{stream}.mp4", mode="append", preset="ultrafast"),
    )
    for sink in sinks:
        sink.open()
        sink.begin(StreamInfo("cam", fps=FPS))
    for frame in range(first, 10**9):
        picture = Picture((np.roll(NOISE, frame, 1), CHROMA, CHROMA), "yuv")
        for sink in sinks:
            sink.write(Result("cam", frame, frame / FPS, None, 64, 48, FOUND, LABELS, picture=picture))
        os.write(report, b".")


def killed(folder: Path, first: int, after_s: float) -> int:
    """Let a child write; kill it so long after its first frame. Returns how many frames it reported."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # nothing of the test process's own ending may run in it
        try:
            write_for_ever(folder, first, writing)
        finally:
            os._exit(1)
    os.close(writing)
    seen = len(os.read(reading, 1))
    threading.Event().wait(after_s)
    os.kill(pid, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "the child ended by itself"
    while more := os.read(reading, 65536):
        seen += len(more)
    os.close(reading)
    return seen


def in_order(folder: Path, name: str) -> list[Path]:
    """A file and those that it was rotated into, oldest first."""
    rotated = sorted(folder.glob(f"{name}.*"), key=lambda path: -int(path.suffix[1:]))
    return [path for path in (*rotated, folder / name) if path.exists()]  # it may have been killed between two files


def whole_lines(data: bytes) -> list[bytes]:
    return data.split(b"\n")[:-1]


def test_two_hundred_times_on_the_sinks(tmp_path: Path) -> None:
    chance = random.Random(11)
    written = confirmed = 0
    for round_ in range(200):
        reported = killed(tmp_path, written, chance.uniform(0.0, 0.12))
        lines = [line for path in in_order(tmp_path, "cam.jsonl") for line in whole_lines(path.read_bytes())]
        since = max(0, written - 1)
        assert [json.loads(line)["frame"] for line in lines[since:]] == list(range(since, len(lines))), "none lost"
        assert len(lines) >= written + reported
        confirmed += reported  # a frame of which the kill let only the first sink know is not repeated
        rows = whole_lines((tmp_path / "cam.csv").read_bytes())
        assert rows[0].startswith(b"frame,pts,")
        assert {row.count(b",") for row in rows} == {9}
        assert len(rows) >= 1 + 3 * confirmed
        newest = max(tmp_path.glob("cam*.mp4"), key=lambda path: path.stat().st_mtime_ns)
        assert frames_of(newest) >= reported - FPS - LOOK_AHEAD - 2, f"round {round_}"
        written = len(lines)
    assert [json.loads(line)["frame"] for line in lines] == list(range(len(lines))), "in order, none twice"
    assert len(in_order(tmp_path, "cam.jsonl")) > 3, "it was rotated under way"


def frames_of(video: Path) -> int:
    """How many a player shows before the place where the kill tore the file."""
    shown: list[object] = []
    with suppress(av.error.InvalidDataError), av.open(str(video)) as container:
        shown.extend(frame.pts for frame in container.decode(video=0))
    return len(shown)


def test_ten_times_on_the_daemon(daemon: Callable[..., Running], media: Media, tmp_path: Path) -> None:
    chance = random.Random(12)
    clip = media.clip("mkv", count=50, options=GOP_OF_A_SECOND)
    model = save(Cells(), tmp_path / "cells.pt")
    sinks = ["type: jsonl, path: 'out/{stream}.jsonl', rotate: {max_mb: 0.05, keep: 100}"]
    sinks += ["type: video, path: 'out/{stream}.mp4'", "type: csv, path: 'out/{stream}.csv'", "type: coco, path: out"]
    streams = [f"name: clip, source: {clip}, loop: true, pace: realtime", "name: bars, source: 'pattern:?size=64x48'"]
    path = config(tmp_path, model, streams, sinks)
    path.write_text(path.read_text() + "server: {listen: '127.0.0.1:0'}\n")
    out = tmp_path / "out"
    for _ in range(10):
        run = daemon(path)
        run.until("detector ready")
        awaited(lambda run=run: run.metric("pipeline_frames_total", outcome="processed") > 20, "results")
        threading.Event().wait(chance.uniform(0.0, 1.5))
        kept = {name: run.streams()[name]["frames"]["processed"] for name in ("clip", "bars")}
        run.kill()
        assert not any(word in run.log for word in TRACES), run.log
        for name in ("clip", "bars"):
            lives = lives_of(in_order(out, f"{name}.jsonl"))
            assert len(lives[-1]) >= kept[name] - 20, "at most what waited for the sink"
            video = sorted(out.glob(f"{name}*.mp4"), key=lambda each: each.stat().st_mtime_ns)[-1]
            assert frames_of(video) >= kept[name] - 16 - 25 - LOOK_AHEAD - 2
    run = daemon(path)
    run.until("detector ready")
    awaited(lambda: run.metric("pipeline_frames_total", outcome="processed") > 20, "results")
    code, log = run.end()
    assert code == 0, log
    for name in ("clip", "bars"):
        assert len(lives_of(in_order(out, f"{name}.jsonl"))) == 11
    assert (out / "coco.json").exists()


def lives_of(files: list[Path]) -> list[list[int]]:
    """Frame numbers by process, each of them in order; every line but the last of the last file parses."""
    lives: dict[str, list[int]] = {}
    for path in files:
        for line in whole_lines(path.read_bytes()):
            record = json.loads(line)
            lives.setdefault(record["run"], []).append(record["frame"])
    for frames in lives.values():
        assert all(a < b for a, b in pairwise(frames))
    return list(lives.values())
