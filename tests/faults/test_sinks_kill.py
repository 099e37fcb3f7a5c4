# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments: what was written stays, and the next run goes on from there."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.frame import Detections, Picture, Result, StreamInfo
from pipeline.sinks import CsvSink, JsonlSink, VideoSink
from pipeline.sinks.record_file import Rotate
from pipeline.sinks.segment_names import SegmentName
from pipeline.sinks.segments import Segments
from tests.films import number_of, numbered

LABELS = {0: "person"}


def killed_after(reports: int, child: Callable[[Callable[[], None]], None]) -> int:
    """Fork ``child``, which reports each thing it has done; kill it after ``reports``. Returns how many it reported."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # the child: nothing of the test process's own ending may run in it
        try:
            os.close(reading)
            child(lambda: os.write(writing, b".") and None)
        finally:
            os._exit(1)
    os.close(writing)
    seen = 0
    while seen < reports:
        got = len(os.read(reading, reports - seen))
        assert got, "the child ended by itself"
        seen += got
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    while more := os.read(reading, 65536):
        seen += len(more)
    os.close(reading)
    return seen


def found(n: int) -> Detections:
    return Detections(
        np.full((n, 4), 12.5, np.float32), np.full(n, 0.5, np.float32), np.zeros(n, np.int64), np.arange(n)
    )


@pytest.mark.parametrize("rotate", [None, Rotate(max_mb=0.05, keep=1000)])
def test_jsonl_loses_no_line_that_was_written(tmp_path: Path, rotate: Rotate | None) -> None:
    rng = random.Random(4)
    first_frame, reported = 0, 0
    for _ in range(20):

        def write_on(report: Callable[[], None], begin: int = first_frame) -> None:
            sink = JsonlSink(tmp_path / "{stream}.jsonl", mode="append", run_id="r", rotate=rotate)
            sink.open()
            sink.begin(StreamInfo("cam"))
            frame = begin
            while True:
                sink.write(Result("cam", frame, frame / 25, None, 640, 480, found(frame % 20), LABELS))
                report()
                frame += 1

        reported += killed_after(rng.randint(1, 120), write_on)
        files = sorted(tmp_path.iterdir(), key=lambda path: -int(path.suffix[1:] if path.suffix[1:].isdigit() else 0))
        frames = [json.loads(line)["frame"] for path in files for line in whole_lines(path)]
        assert frames == list(range(len(frames))), "in order, none torn, none lost, none twice"
        assert len(frames) >= reported
        first_frame = reported = len(frames)
    if rotate:
        assert len(files) > 1


def whole_lines(path: Path) -> list[bytes]:
    """All lines but an unfinished last one."""
    return path.read_bytes().split(b"\n")[:-1]


def test_csv_goes_on_after_a_kill(tmp_path: Path) -> None:
    def write_on(report: Callable[[], None]) -> None:
        sink = CsvSink(tmp_path / "{stream}.csv", mode="append")
        sink.open()
        for frame in range(10**9):
            sink.write(Result("cam", frame, frame / 25, None, 640, 480, found(3), LABELS))
            report()

    reported = sum(killed_after(reports, write_on) for reports in (1, 17, 40))
    lines = whole_lines(tmp_path / "cam.csv")
    assert lines[0].startswith(b"frame,pts,")
    assert len(lines) >= 1 + 3 * reported
    assert {line.count(b",") for line in lines} == {9}


def test_a_video_plays_up_to_the_stated_loss(tmp_path: Path) -> None:
    rng = random.Random(5)
    fps = 10
    noise = np.random.default_rng(0).integers(60, 200, (144, 176), np.uint8)
    chroma = np.full((72, 88), 128, np.uint8)
    for round_ in range(6):
        folder = tmp_path / str(round_)

        def write_on(report: Callable[[], None], folder: Path = folder) -> None:
            sink = VideoSink(folder / "{stream}.mp4")
            sink.open()
            sink.begin(StreamInfo("cam", fps=fps))
            for frame in range(10**9):
                picture = Picture((np.roll(noise, frame, 1), chroma, chroma), "yuv")
                sink.write(Result("cam", frame, frame / fps, None, 176, 144, found(2), LABELS, picture=picture))
                report()

        reported = killed_after(rng.randint(20, 90), write_on)
        times: list[float] = []
        # The kill may stop the write of a fragment in its middle: what comes before that is shown.
        with suppress(av.error.InvalidDataError), av.open(str(folder / "cam.mp4")) as container:
            times.extend(float(frame.pts * frame.time_base) for frame in container.decode(video=0))
        assert times == pytest.approx([n / fps for n in range(len(times))], abs=1e-4)
        # one fragment of a second, five frames of look-ahead, and the frame that tells that the fragment is over
        assert len(times) >= reported - fps - 5 - 2


def test_segments_that_were_written_play_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """Killed at moments of chance, six times in one folder: all but the last of each run are whole."""
    rng = random.Random(6)
    fps, first, kills = 10, 0, 6
    reported: list[tuple[int, int]] = []
    for _ in range(kills):

        def write_on(report: Callable[[], None], begin: int = first) -> None:
            sink = VideoSink(tmp_path / "{stream}.mp4", mode="append", rotate=Segments(seconds=3.0, keep=1000))
            sink.open()
            sink.begin(StreamInfo("cam", fps=fps))
            for frame in range(begin, 10**9):
                sink.write(numbered(frame, (frame - begin) / fps))
                report()

        count = killed_after(rng.randint(25, 90), write_on)
        reported.append((first, first + count))
        first += 512  # whatever follows is of the next run
    shown: dict[int, list[int]] = {}
    for path in tmp_path.iterdir():
        name = SegmentName.parse(path.name, tmp_path / "cam.mp4")
        assert name is not None
        numbers = shown.setdefault(name.number, [])
        with suppress(av.error.InvalidDataError), av.open(str(path)) as container:
            numbers.extend(number_of(frame.to_ndarray(format="gray")) for frame in container.decode(video=0))
    assert sorted(shown) == list(range(1, len(shown) + 1))
    frames = [number for _, numbers in sorted(shown.items()) for number in numbers]
    assert frames == sorted(set(frames)), "in order, none twice"
    for begin, end in reported:
        of_run = [frame for frame in frames if begin <= frame < begin + 512]
        assert of_run == list(range(begin, begin + len(of_run))), "none lost between two segments"
        assert len(of_run) >= end - begin - fps - 5 - 2
