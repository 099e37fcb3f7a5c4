# SPDX-License-Identifier: Apache-2.0
"""How far a video's file is behind: what a full disk, or SIGKILL, can cost of what counts as written."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from pipeline.sinks.mp4 import Mp4File
from pipeline.sinks.timeline import TICKS_PER_SECOND


@pytest.mark.parametrize("fps", [5, 15])
def test_the_file_is_at_most_a_second_and_five_frames_behind(tmp_path: Path, fps: int) -> None:
    path = tmp_path / "gate.mp4"
    file = Mp4File(path, 64, 48, fps=fps, segment=True)
    behind = []
    for number in range(4 * fps):
        frame, planes = file.blank()
        for plane in planes:
            plane[...] = 90 + number
        file.write(frame, round(number * TICKS_PER_SECOND / fps), round(TICKS_PER_SECOND / fps))
        behind.append(number + 1 - whole(path))
    file.close()
    assert whole(path) == 4 * fps
    assert fps <= max(behind) <= fps + 6, "with the frame that was given last, whose loss is counted"


def whole(path: Path) -> int:
    """Pictures of a file that another program can read at this moment."""
    try:
        with av.open(str(path)) as container:
            return sum(1 for packet in container.demux(video=0) if packet.size)
    except av.FFmpegError:  # not one fragment yet
        return 0
