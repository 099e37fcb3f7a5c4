# SPDX-License-Identifier: Apache-2.0
"""Disks that fill up and readers that stand still, under a running daemon: the sink says so within seconds, only its
own results are lost and each is counted, and it goes on by itself."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.timing import now_ns
from tests.daemons import JSONL, config
from tests.faults.disks import fill, in_child, mount
from tests.models import Cells, save
from tests.processes import TRACES, Running, awaited, daemon

__all__ = ["daemon"]

pytestmark = pytest.mark.timeout(300)  # each wait in it may take a minute beside other work

STREAMS = [f"name: {name}, source: 'pattern:?size=64x48&fps=50', policy: every_frame" for name in ("a", "b")]
SHOWN_WITHIN_S = 5.0
GRACE_S = 2.0
SHORT_GRACE = f"""
import sys
from functools import partial
from pipeline import daemon
from pipeline.cli import main
daemon.Daemon = partial(daemon.Daemon, grace_s={GRACE_S})
sys.argv.insert(1, "run")
sys.exit(main())
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Cells(), tmp_path_factory.mktemp("model") / "cells.pt")


def served(folder: Path, model: Path, *sinks: str) -> Path:
    path = config(folder, model, STREAMS, sinks)
    path.write_text(path.read_text() + "server: {listen: '127.0.0.1:0'}\n")
    return path


def sink(run: Running, name: str) -> dict[str, Any]:
    found: dict[str, Any] = run.web.get("/api/streams").json()["sinks"][name]
    return found


def frames(path: Path) -> list[int]:
    """Of every line; a torn one would not parse."""
    data = path.read_bytes()
    assert data.endswith(b"}\n")
    return [json.loads(line)["frame"] for line in data.splitlines()]


def balance(account: dict[str, Any]) -> int:
    """Results that a sink was given and that are neither written nor lost."""
    return int(account["received"] - account["written"] - sum(account["lost"].values()))


@contextmanager
def limited_files(run: Running, folder: Path) -> Iterator[None]:
    """No file of the daemon may grow: writes end with EFBIG."""
    run.files_up_to(max(path.stat().st_size for path in folder.iterdir()) + 700)
    yield
    run.files_up_to(-1)


@contextmanager
def full_disk(run: Running, folder: Path) -> Iterator[None]:
    """Something else takes all the space of the disk: writes end with ENOSPC, some of them half way."""
    filler = fill(folder)
    yield
    filler.unlink()


def fills_up_and_empties(run: Running, folder: Path, fault: Callable[[Running, Path], Any], other: str) -> None:
    """The life of a daemon whose sink ``jsonl-0`` writes into ``folder``, while its sink ``other`` goes on."""
    run.until("detector ready")
    awaited(lambda: run.web.get("/api/streams").json()["sinks"], "sinks")  # it answers before there are any
    awaited(lambda: sink(run, "jsonl-0")["written"] > 20, "results")
    with fault(run, folder):
        began_ns = now_ns()
        awaited(lambda: sink(run, "jsonl-0")["state"] == "degraded", "the sink's word")
        assert (now_ns() - began_ns) / 1e9 < SHOWN_WITHIN_S + 2, "figures are a second old at most"
        run.until("error: sink jsonl-0: cannot write .*(No space left on device|File too large)")
        assert run.metric("pipeline_sink_up", sink="jsonl-0") == 0
        going_on = sink(run, other)["written"]
        awaited(lambda: sink(run, other)["written"] > going_on + 50, "results of the other sink")
        assert sink(run, "jsonl-0")["lost"]["write_error"] > 0
    run.until("warning: sink jsonl-0 keeps results again, lost so far: [1-9]")
    written = sink(run, "jsonl-0")["written"]
    awaited(lambda: sink(run, "jsonl-0")["written"] > written + 20, "results after the fault")
    report = run.web.get("/api/report").json()
    assert report["sinks"][other]["lost"] == {}
    for stream in report["streams"].values():
        assert stream["frames"]["dropped"] == {}, "analytics go on"
    code, log = run.end()
    assert code == 0, log
    assert not any(word in log for word in TRACES), log
    lost = 0
    for name in ("a", "b"):
        kept = frames(folder / f"{name}.jsonl")
        assert kept[0] == 0
        lost += sum(after - before - 1 for before, after in pairwise(kept))
    said = int(log.rpartition("keeps results again, lost so far: ")[2].split()[0])
    assert lost == said, "what is missing in the files is what was counted"


@pytest.mark.slow
def test_a_full_disk_under_a_running_daemon(daemon: Callable[..., Running], model: Path, tmp_path: Path) -> None:
    """The other sink writes into a pipe, which knows no such limit."""
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.DEVNULL) as cat:
        try:
            run = daemon(served(tmp_path, model, JSONL, "type: jsonl, path: pipe"))
            fills_up_and_empties(run, tmp_path / "out", limited_files, "jsonl-1")
        finally:
            cat.kill()


@pytest.mark.slow
def test_a_disk_that_is_really_full(daemon: Callable[..., Running], model: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"

    def body() -> None:
        mount(disk, 1024)
        sinks = (f"type: jsonl, path: '{disk}/{{stream}}.jsonl'", JSONL)
        fills_up_and_empties(daemon(served(tmp_path, model, *sinks)), disk, full_disk, "jsonl-1")
        for name in ("a", "b"):
            kept = frames(tmp_path / "out" / f"{name}.jsonl")
            assert kept == list(range(len(kept)))

    in_child(body)


@pytest.mark.slow
def test_video_on_a_disk_that_is_really_full(daemon: Callable[..., Running], model: Path, tmp_path: Path) -> None:
    """Nothing is removed beyond its limits, no empty files gather, and it goes on by itself; then the limits hold."""
    disk = tmp_path / "disk"

    def body() -> None:
        mount(disk, 1024)
        films = f"type: video, path: '{disk}/{{stream}}.mp4', rotate: {{segment_s: 1, keep: 4}}"
        run = daemon(served(tmp_path, model, films, JSONL))
        run.until("detector ready")
        awaited(lambda: len(list(disk.glob("a.*Z.[0-9].mp4"))) >= 3, "segments")
        with full_disk(run, disk):
            run.until("error: sink video: cannot write .*No space left on device")
            before = {path.name for path in disk.iterdir()}
            lost = sink(run, "video")["lost"]["write_error"]
            awaited(lambda: sink(run, "video")["lost"]["write_error"] > lost + 100, "more losses")
            assert sink(run, "jsonl")["lost"] == {}
            there = {path.name for path in disk.iterdir()}
            assert len(there - before) <= 2, "what is being tried of each stream"
            assert len(before - there) <= 2, "what was being tried then"
        run.until("warning: sink video keeps results again, lost so far: [1-9]")
        awaited(lambda: run.metric("pipeline_sink_segments_removed_total", sink="video") > 4, "removals")
        code, log = run.end()
        assert code == 0, log
        assert re.search(rf"a: segment removed: {disk}/a\.[0-9T-]+Z\.\d+\.mp4 \(keep: 4\)", log)
        assert not any(word in log for word in TRACES), log
        for name in ("a", "b"):
            numbers = sorted(int(path.suffixes[-2][1:]) for path in disk.glob(f"{name}.*.mp4"))
            assert len(numbers) <= 5, "four, and the one that was being written"

    in_child(body)


@pytest.mark.slow
def test_a_reader_that_stands_still_and_goes_on(daemon: Callable[..., Running], model: Path, tmp_path: Path) -> None:
    """Only its own sink's queue fills, then the oldest go; it resumes; and it holds a stop up for the grace only."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (tmp_path / "read").open("wb") as read, subprocess.Popen(["cat", pipe], stdout=read) as cat:
        try:
            run = daemon(served(tmp_path, model, "type: jsonl, path: pipe", JSONL), program=SHORT_GRACE)
            run.until("detector ready")
            awaited(lambda: sink(run, "jsonl-0")["written"] > 20, "results")
            end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)  # soon full
            os.close(end)
            cat.send_signal(signal.SIGSTOP)
            awaited(lambda: sink(run, "jsonl-0")["lost"].get("overflow", 0) > 10, "an overflow that is counted")
            assert balance(sink(run, "jsonl-0")) <= 256 + 2, "what waits is bounded"
            cat.send_signal(signal.SIGCONT)
            lost = sink(run, "jsonl-0")["lost"]["overflow"]
            awaited(lambda: balance(sink(run, "jsonl-0")) < 20, "it caught up")
            assert sink(run, "jsonl-0")["state"] == "ok"
            cat.send_signal(signal.SIGSTOP)
            awaited(lambda: sink(run, "jsonl-0")["lost"]["overflow"] > lost + 10, "it stands still again")
            began_ns = now_ns()
            code, log = run.end()
            took_s = (now_ns() - began_ns) / 1e9
        finally:
            cat.send_signal(signal.SIGCONT)
            cat.kill()
    assert code == 1, log
    assert took_s < GRACE_S + 5
    assert f"not drained within {GRACE_S:g} s: write:jsonl-0" in log
    for name in ("a", "b"):
        kept = frames(tmp_path / "out" / f"{name}.jsonl")
        assert kept == list(range(len(kept))), "the other sink lost nothing"
    text = (tmp_path / "read").read_bytes()
    assert all(json.loads(line) for line in text.split(b"\n")[:-1]), "and nothing came torn through the pipe"


@pytest.mark.slow
def test_a_slow_reader_gets_the_newest(daemon: Callable[..., Running], model: Path, tmp_path: Path) -> None:
    """Ten records a second of a hundred: the loss is counted, and the others do not feel it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    run = daemon(served(tmp_path, model, "type: jsonl, path: pipe", JSONL), program=SHORT_GRACE)
    stop = threading.Event()

    def read() -> None:
        with pipe.open("rb", buffering=0) as file:
            fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, 4096)
            while not stop.wait(0.1):
                file.read(400)
            while file.read(65536):
                pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        run.until("detector ready")
        awaited(lambda: sink(run, "jsonl-0")["lost"].get("overflow", 0) > 100, "an overflow that is counted")
        assert balance(sink(run, "jsonl-0")) <= 256 + 2
        assert balance(sink(run, "jsonl-1")) < 50
        stop.set()
        code, log = run.end()
    finally:
        stop.set()
        reader.join()
    assert code == 0, log
    assert re.search(r"sink jsonl-0 lost [\d,]+ results \(overflow [\d,]+\)", log)
    for name in ("a", "b"):
        kept = frames(tmp_path / "out" / f"{name}.jsonl")
        assert kept == list(range(len(kept)))
