# SPDX-License-Identifier: Apache-2.0
"""The limit for the video of all streams, with films that ffprobe reads: what is left plays, and is the newest."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import av
import pytest

from pipeline.daemon import Daemon
from pipeline.frame import StreamInfo
from pipeline.sinks import VideoSink
from pipeline.sinks.segments import Segments
from pipeline.testing import FakeDetector, ManualClock
from tests.daemons import config, no_network
from tests.films import number_of, numbered

__all__ = ["no_network"]

pytestmark = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="the program ffprobe is not installed")
LIMIT, FPS = 60_000, 10


def packets(path: Path) -> int:
    """How many frames ffprobe counts, which complains of nothing."""
    command = ["ffprobe", "-v", "warning", "-of", "json", "-count_packets", "-show_entries", "stream=nb_read_packets"]
    done = subprocess.run([*command, path], capture_output=True, check=True)
    assert done.stderr == b""
    return int(json.loads(done.stdout)["streams"][0]["nb_read_packets"])


def shown(path: Path) -> list[int]:
    with av.open(str(path)) as film:
        return [number_of(frame.to_ndarray(format="gray")) for frame in film.decode(video=0)]


def test_what_is_left_of_several_cameras_is_the_newest_and_plays(tmp_path: Path) -> None:
    clock = ManualClock()
    rule = Segments(seconds=3.0, max_bytes=None, max_total_bytes=LIMIT)
    most = 0
    for run, streams in enumerate((["gate", "lobby", "gone"], ["gate", "lobby", "new"])):
        sink = VideoSink(tmp_path / "{stream}.mp4", mode="append", rotate=rule, clock=clock)
        sink.open()
        for stream in streams:
            sink.begin(StreamInfo(stream, fps=FPS))
        for frame in range(run * 300, run * 300 + 300):
            for stream in streams:
                sink.write(numbered(frame, frame / FPS, wall_ns=clock.wall_ns(), stream=stream))
                most = max(most, sum(path.stat().st_size for path in tmp_path.iterdir()))
            clock.advance(1_000_000_000 // FPS)
        sink.close()
        assert sink.segments_removed
    assert LIMIT / 2 < most <= LIMIT, "with those that were being written, after every frame"
    left: dict[str, list[int]] = defaultdict(list)
    for path in sorted(tmp_path.iterdir(), key=lambda path: int(path.name.split(".")[2])):
        frames = shown(path)
        assert packets(path) == len(frames) > 0
        left[path.name.split(".")[0]] += frames
    assert set(left) == {"gate", "lobby", "new"}
    for frames in left.values():
        assert frames == list(range(frames[0], 600)), "without a gap, up to the last one"
    assert max(frames[0] for frames in left.values()) - min(frames[0] for frames in left.values()) <= 30, "equally long"


def test_a_daemon_makes_room_in_what_streams_of_earlier_files_left(
    no_network: FakeDetector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("gone.2020-01-01T00-00-00Z.5.mp4", "gone.2020-01-01T01-00-00Z.6.mp4", "gone.mp4", "gone.kept.mp4"):
        (folder / name).write_bytes(bytes(6_000_000))
    stream = "name: bars, source: 'pattern:?size=64x48&fps=200&frames=40', policy: every_frame"
    sink = "type: video, path: 'out/{stream}.mp4', rotate: {max_total_gb: 0.01}"
    with caplog.at_level(logging.INFO):
        assert Daemon(config(tmp_path, tmp_path / "none.pt", [stream], [sink])).run() == 0
    left = sorted(path.name for path in folder.iterdir())
    assert left[1:] == ["gone.2020-01-01T01-00-00Z.6.mp4", "gone.kept.mp4", "gone.mp4"]
    assert packets(folder / left[0]) == 40
    told = [record.getMessage() for record in caplog.records if "segment removed" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("gone: segment removed: ")
    assert told[0].endswith("gone.2020-01-01T00-00-00Z.5.mp4 (max_total_gb: 0.01)")
