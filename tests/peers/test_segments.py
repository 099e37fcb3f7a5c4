# SPDX-License-Identifier: Apache-2.0
"""Segments of video as ffprobe and ffmpeg see them: each alone, and all of them together."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.frame import StreamInfo
from pipeline.sinks import VideoSink
from pipeline.sinks.segments import Segments
from pipeline.testing import ManualClock
from tests.films import HEIGHT, WIDTH, number_of, numbered

pytestmark = pytest.mark.skipif(
    shutil.which("ffprobe") is None or shutil.which("ffmpeg") is None, reason="the program ffmpeg is not installed"
)
FPS, FRAMES, SECONDS = 10, 130, 3.0


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five segments of 13 s, in the order in which they were made."""
    folder = tmp_path_factory.mktemp("segments")
    clock = ManualClock()
    sink = VideoSink(folder / "{stream}.mp4", rotate=Segments(SECONDS), clock=clock)
    sink.open()
    sink.begin(StreamInfo("cam", fps=25))  # of which `fps: 10` leaves ten
    for frame in range(FRAMES):
        sink.write(numbered(frame, 5.0 + frame / FPS))
        clock.advance(1_000_000_000 // FPS)
    sink.close()
    return sorted(folder.iterdir())


def decoded(*source: str | Path) -> list[int]:
    """Numbers of the frames that ffmpeg decodes, which complains of nothing."""
    command = ["ffmpeg", "-v", "warning", "-xerror", *source, "-fps_mode", "passthrough", "-f", "rawvideo"]
    done = subprocess.run([*command, "-pix_fmt", "gray", "-"], capture_output=True, check=True)
    assert done.stderr == b""
    return [number_of(luma) for luma in np.frombuffer(done.stdout, np.uint8).reshape(-1, HEIGHT, WIDTH)]


def probed(path: Path) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_entries", "packet=pts_time,flags"]
    found: dict[str, Any] = json.loads(subprocess.run([*command, path], capture_output=True, check=True).stdout)
    return found


def test_each_plays_alone_and_no_frame_is_lost_or_shown_twice(segments: list[Path]) -> None:
    each = [decoded("-i", path) for path in segments]
    assert [len(numbers) for numbers in each] == [30, 30, 30, 30, 10]
    assert [number for numbers in each for number in numbers] == list(range(FRAMES))


def test_each_begins_at_nought_with_a_key_frame_and_the_lengths_add_up(segments: list[Path]) -> None:
    total_s = 0.0
    for path in segments:
        found = probed(path)
        assert found["packets"][0]["flags"].startswith("K")
        assert float(found["packets"][0]["pts_time"]) == 0
        assert float(found["format"]["start_time"]) == 0
        total_s += float(found["format"]["duration"])
    assert total_s == pytest.approx(FRAMES / FPS, abs=0.001)


def test_they_can_be_put_together(segments: list[Path], tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"file '{path}'\n" for path in segments))
    assert decoded("-f", "concat", "-safe", "0", "-i", listed) == list(range(FRAMES))
