# SPDX-License-Identifier: Apache-2.0
"""Recordings that play cameras: the clip's frames in turn, each due when it was said to be."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.copies import copy_at_rate, due_s


def test_a_copy_repeats_the_clip_at_its_own_rate(tmp_path: Path) -> None:
    levels = [20, 60, 100, 140, 180, 220]
    with av.open(str(tmp_path / "clip.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=15, options={"x264-params": "bframes=0:keyint=3", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in levels:
            picture = av.VideoFrame.from_ndarray(np.full((48, 64), level, np.uint8), "gray").reformat(format="yuv420p")
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))

    copy_at_rate(tmp_path / "clip.mkv", tmp_path / "copy.mp4", fps=37.5, frames=15, first_gap=1.6)

    with av.open(str(tmp_path / "copy.mp4")) as copy:
        frames = [(frame.time, float(frame.to_ndarray(format="gray").mean())) for frame in copy.decode(video=0)]
    assert [time for time, _ in frames] == pytest.approx(
        [due_s(number, fps=37.5, first_gap=1.6) for number in range(15)], abs=1e-4
    )
    assert [level for _, level in frames] == pytest.approx([levels[number % 6] for number in range(15)], abs=20)
