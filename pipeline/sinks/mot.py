# SPDX-License-Identifier: Apache-2.0
"""MOTChallenge text files, the format that tracking benchmarks read."""

from __future__ import annotations

from pathlib import Path

from pipeline.frame import Result
from pipeline.sinks.columns import columns
from pipeline.sinks.stream_files import Mode, StreamFiles, StreamFilesSink


def mot_lines(result: Result) -> bytes:
    """``frame,id,left,top,width,height,conf,-1,-1,-1`` per detection, in pixels.

    Frames count from 1 as the format wants it, the id is -1 where nothing was tracked, and all classes are written:
    the format has no column for them. Sides are differences of the rounded corners, so that corners can be had back.
    """
    return b"".join(
        b"%d,%d,%r,%r,%r,%r,%r,-1,-1,-1\n"
        % (
            result.frame + 1,
            -1 if track_id is None else track_id,
            x_min,
            y_min,
            round(x_max - x_min, 2),
            round(y_max - y_min, 2),
            confidence,
        )
        for _, _, confidence, (x_min, y_min, x_max, y_max), track_id in zip(*columns(result), strict=True)
    )


class MotSink(StreamFilesSink):
    """Writes ``<stream>.mot.txt``; a stream in which nothing was found has an empty file.

    Args:
        path: template such as ``out/{stream}.mot.txt``.
        mode: ``replace``, or ``append`` after repairing a torn tail.
    """

    def __init__(self, path: str | Path, *, mode: Mode = "replace", name: str = "mot") -> None:
        super().__init__(name, StreamFiles(path, mode=mode))

    def write(self, result: Result) -> None:
        """Write the lines of one frame; raises SinkError."""
        if len(result.detections):
            self._files.append(result.stream, mot_lines(result))
