# SPDX-License-Identifier: Apache-2.0
"""What is true of a camera: what it says of its clock, how old its frames are by that, and pictures that it repeats."""

from __future__ import annotations

import json
import os
import signal
import statistics
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.frame import Capture
from pipeline.ledger.blocks import Block
from pipeline.ledger.capture import CaptureTimes
from pipeline.redact import SourceUrl
from pipeline.sources import CameraSource
from pipeline.timing import AGE, MOST_AGE_NS, Mark, new_trace
from tests.background import Background
from tests.daemons import no_network, records
from tests.faults.camera import Camera, Freezes, read_clip, serving
from tests.media import H264, Media, media, play

__all__ = ["media", "no_network"]

GOP_5 = {**H264, "x264-params": "keyint=5:min-keyint=5:scenecut=0:threads=1"}
HEVC_GOP_5 = {"preset": "ultrafast", "x265-params": "keyint=5:min-keyint=5:scenecut=0:qp=8:bframes=0:log-level=none"}
MS = 1_000_000
FPS = 50


def look(url: str, count: int, transport: str, parser: str = "auto") -> list[Capture]:
    address = SourceUrl.parse(url)
    source = CameraSource(address, open_timeout_s=5.0, read_timeout_s=5.0, transport=transport, parser=parser)  # type: ignore[arg-type]
    return play(source, limit=count)[1]


@pytest.mark.parametrize(
    ("transport", "codec", "clock_s"),
    [("tcp", "libx264", -0.25), ("udp", "libx264", 3600.0), ("udp", "libx265", -0.25)],
)
def test_how_old_a_frame_is_when_it_comes(media: Media, transport: str, codec: str, clock_s: float) -> None:
    """A clock that is behind is to us as a camera that needs as long to send what it took."""
    options = GOP_5 if codec == "libx264" else HEVC_GOP_5
    clip = read_clip(media.clip("mkv", count=60, codec=codec, options=options))
    with serving(Camera("gate", clip, fps=FPS, clock_s=clock_s)) as cameras:
        captures = look(cameras.url("gate"), 50, transport)
    ages_ms = [capture.age_ns / MS for capture in captures]
    assert all(age for age in ages_ms), "the report comes before the first frame"
    # Never less than its clock is behind, and not much more: a frame may be complete with the next one only, and this
    # machine be busy.
    assert min(ages_ms) > -clock_s * 1000 - 1
    assert statistics.median(ages_ms) < -clock_s * 1000 + 150
    taken = [capture.camera_ns or 0 for capture in captures]
    assert statistics.median(np.diff(taken)) == pytest.approx(1e9 / FPS, rel=0.02)


def test_through_libavs_parser_nothing_is_told(media: Media) -> None:
    """It keeps packets back, and hands what came with one on with another."""
    clip = read_clip(media.clip("mkv", count=60, options=GOP_5))
    with serving(Camera("gate", clip, fps=FPS)) as cameras:
        assert {one.camera_ns for one in look(cameras.url("gate"), 20, "tcp", "libav")} == {None}


def run_for(frames: int, folder: Path, *cameras: Camera) -> None:
    """A daemon that looks at these, until there are so many results of each."""
    path = folder / "streams.yaml"
    files = [folder / f"{camera.name}.jsonl" for camera in cameras]

    def enough() -> bool:
        return all(file.exists() and file.read_bytes().count(b"\n") >= frames for file in files)

    with serving(*cameras) as served:
        streams = ", ".join(f"{{name: {camera.name}, source: '{served.url(camera.name)}'}}" for camera in cameras)
        sinks = f"{{type: jsonl, path: '{folder}/{{stream}}.jsonl'}}"
        path.write_text(f"defaults: {{fps: 25}}\nstreams: [{streams}]\nsinks: [{sinks}]\n")
        deadline = time.monotonic() + 60

        def end() -> None:
            while not enough() and time.monotonic() < deadline:
                threading.Event().wait(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        watcher = Background(end)
        assert main(["run", str(path), "--json"]) == 0
        watcher.result()


def test_a_daemon_tells_of_glass_to_result(
    no_network: object, media: Media, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = read_clip(media.clip("mkv", count=60, options=GOP_5))
    run_for(25, tmp_path, Camera("behind", clip, clock_s=-0.25), Camera("ahead", clip, clock_s=60))
    report = json.loads(capsys.readouterr().out)
    told = report["streams"]["behind"]["camera"]
    assert told["clocks_apart"] == 0
    assert told["delay_ms"] >= 249
    assert told["capture_to_result"]["count"] == report["streams"]["behind"]["frames"]["processed"]
    behind = report["streams"]["behind"]
    after_ms = sum(part["mean_ms"] for part in (behind["waits"]["outlet"], behind["stages"]["sink"]))
    assert told["capture_to_result"]["mean_ms"] > 249 + behind["end_to_end"]["mean_ms"] - after_ms
    for line in records(tmp_path / "behind.jsonl"):
        captured, arrived = (datetime.fromisoformat(line[key]) for key in ("captured", "time"))
        age_ms = (arrived - captured).total_seconds() * 1000
        assert line["capture_to_result_ms"] == pytest.approx(age_ms + line["latency_ms"]["end_to_end"], abs=0.01)
        assert age_ms >= 249
    told = report["streams"]["ahead"]["camera"]
    assert told["capture_to_result"] is None
    assert told["clocks_apart"] == report["streams"]["ahead"]["frames"]["processed"]
    assert -60_001 <= told["delay_ms"] <= -50_000, "a busy machine reads late"
    assert {line["capture_to_result_ms"] for line in records(tmp_path / "ahead.jsonl")} == {None}


def test_ages_that_cannot_be_are_counted_apart() -> None:
    times = CaptureTimes()
    traces = []
    for age_ns in (0, 5 * MS, MOST_AGE_NS, MOST_AGE_NS + 1, -1, 30 * MS):
        trace = new_trace()
        trace[Mark.READ], trace[Mark.FOLLOWED], trace[Mark.DONE] = 1000, 1000 + 2 * MS, 1000 + 9 * MS
        trace[AGE] = age_ns
        traces.append(trace)
    times.add(Block(traces))
    assert (times.histogram.count, times.apart, times.delay_ns) == (3, 2, 30 * MS)
    assert times.histogram.total == 5 * MS + MOST_AGE_NS + 30 * MS + 3 * 2 * MS
    times.add(Block([new_trace()]))
    assert (times.histogram.count, times.apart, times.delay_ns) == (3, 2, 30 * MS)


def test_a_daemon_counts_pictures_that_come_once_more(
    no_network: object, media: Media, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = read_clip(media.clip("mkv", count=60, options=GOP_5))
    cameras = Camera("frozen", clip, faults=[Freezes(after=10)]), Camera("moving", clip)
    run_for(25, tmp_path, *cameras)
    report = json.loads(capsys.readouterr().out)
    frozen, moving = (report["streams"][name] for name in ("frozen", "moving"))
    assert moving["camera"]["duplicates"] == 0
    # Ten frames as they should be, those up to the next key frame, and then one again and again.
    assert 10 <= frozen["frames"]["decoded"] - frozen["camera"]["duplicates"] <= 16
