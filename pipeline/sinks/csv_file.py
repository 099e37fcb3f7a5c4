# SPDX-License-Identifier: Apache-2.0
"""One CSV row per detection, with the column names that the supervision library gave them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pipeline.frame import Result
from pipeline.sinks.columns import columns, seconds
from pipeline.sinks.record_file import Rotate
from pipeline.sinks.stream_files import Fsync, Mode, StreamFiles, StreamFilesSink

HEADER = b"frame,pts,x_min,y_min,x_max,y_max,class_id,label,confidence,tracker_id\n"


def csv_rows(result: Result) -> bytes:
    """The rows of one frame, each ending in a newline; ``tracker_id`` is empty where nothing was tracked."""
    pts = seconds(result.pts)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [result.frame, pts, *box, class_id, label, confidence, track_id]
        for class_id, label, confidence, box, track_id in zip(*columns(result), strict=True)
    )
    return text.getvalue().encode("utf-8", "replace")


class CsvSink(StreamFilesSink):
    """Writes ``<stream>.csv``. A frame's rows go out with one ``write``; a frame without detections has none.

    Args:
        path: template such as ``out/{stream}.csv``.
        mode, rotate, fsync: as for :class:`pipeline.sinks.jsonl.JsonlSink`. Every file begins with the header.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        mode: Mode = "replace",
        rotate: Rotate | None = None,
        fsync: Fsync = "never",
        name: str = "csv",
    ) -> None:
        super().__init__(name, StreamFiles(path, mode=mode, header=HEADER, rotate=rotate, fsync=fsync))

    def write(self, result: Result) -> None:
        """Write the rows of one frame; raises SinkError."""
        if len(result.detections):
            self._files.append(result.stream, csv_rows(result))
