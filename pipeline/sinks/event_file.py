# SPDX-License-Identifier: Apache-2.0
"""Events of streams, one JSON object per line, in files of their own: a results file holds one line per frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from pipeline.events import StreamEvent
from pipeline.sinks.paths import StreamPaths
from pipeline.sinks.record_file import RecordFile, Rotate
from pipeline.timing import rfc3339


def event_line(event: StreamEvent, run_id: str | None = None) -> bytes:
    """``event`` as one line of JSON, newline last."""
    record: dict[str, Any] = {
        "stream": event.stream,
        "time": rfc3339(event.wall_ns),
        "event": event.kind,
        "state": event.state,
        "cause": event.cause,
        "detail": event.detail,
        "after_s": round(event.after_s, 3),
        "epoch": event.epoch,
        "frame": event.frame,
        "width": event.width,
        "height": event.height,
        "codec": event.codec,
    }
    if run_id is not None:
        record["run"] = run_id
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


class EventFiles:
    """Appends to one file per stream, or to a shared one. Events are rare, so a file is open only while one is written:
    nothing has to be closed for cameras that were never reached.

    Args:
        path: template such as ``out/{stream}.events.jsonl``.
        rotate: when to start a new file, or None.
        durable: each event survives a power loss.
    """

    def __init__(self, path: str | Path, *, rotate: Rotate | None = None, durable: bool = False) -> None:
        self._paths = StreamPaths(path)
        self._rotate = rotate
        self._durable = durable

    def append(self, event: StreamEvent, run_id: str | None = None) -> None:
        """Write one line; raises SinkError, and leaves no torn line before the next one."""
        path = self._paths.of(event.stream)
        file = RecordFile(path, opening=b'{"stream":', rotate=self._rotate, durable=self._durable)
        try:
            file.append(event_line(event, run_id))
        finally:
            file.close()
