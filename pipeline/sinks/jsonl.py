# SPDX-License-Identifier: Apache-2.0
"""One JSON object per processed frame and line, the pipeline's own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from pipeline.errors import SinkError
from pipeline.events import StreamEvent
from pipeline.frame import Result
from pipeline.sinks.columns import columns, seconds
from pipeline.sinks.event_file import EventFiles
from pipeline.sinks.record_file import Rotate
from pipeline.sinks.stream_files import Fsync, Mode, StreamFiles, StreamFilesSink
from pipeline.timing import AGE, MOST_AGE_NS, STAGES, SYSTEM, Clock, Mark, elapsed, rfc3339, stage_times


def latency_ms(trace: list[int]) -> dict[str, float]:
    """Milliseconds per stage up to publication, and ``end_to_end``, their sum; {} for a frame without marks.

    Not rounded: a nanosecond is the sixth decimal, so the stages of a line add up.
    """
    if not trace:
        return {}
    times = stage_times(trace, Mark.PLAYED)
    shown: dict[str, float] = {stage: times[stage] / 1e6 for stage in STAGES if stage in times}
    shown["end_to_end"] = elapsed(trace, Mark.PLAYED) / 1e6
    return shown


def captured(result: Result) -> dict[str, Any]:
    """``captured``: wall time by the camera's own clock; ``capture_to_result_ms``: from then to publication, None where
    its clock and this machine's are not set alike. Nothing where the camera does not tell."""
    age_ns = result.trace[AGE] if len(result.trace) > AGE else 0  # a plug-in may have marks only
    if not age_ns or result.wall_ns is None:
        return {}
    took_ns = age_ns + elapsed(result.trace, Mark.PLAYED)
    return {
        "captured": rfc3339(result.wall_ns - age_ns),
        "capture_to_result_ms": took_ns / 1e6 if 0 < age_ns <= MOST_AGE_NS else None,
    }


def line(result: Result, run_id: str | None = None) -> bytes:
    """``result`` as one line of JSON, newline last.

    With ``run_id`` (a live feed) it also says ``run``, ``epoch``, ``latency_ms``, ``dropped_before`` and what
    :func:`captured` tells; without, the same result gives the same bytes on every machine. Raises SinkError for what
    JSON cannot hold.
    """
    record: dict[str, Any] = {
        "stream": result.stream,
        "frame": result.frame,
        "pts": seconds(result.pts),
        "time": None if result.wall_ns is None else rfc3339(result.wall_ns),
        "width": result.width,
        "height": result.height,
        "detections": [
            {"class_id": class_id, "label": label, "confidence": confidence, "box": box, "track_id": track_id}
            for class_id, label, confidence, box, track_id in zip(*columns(result), strict=True)
        ],
    }
    if run_id is not None:
        record["run"] = run_id
        record["epoch"] = result.epoch
        record["latency_ms"] = latency_ms(result.trace)
        record["dropped_before"] = result.dropped_before
        record |= captured(result)
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError as error:
        raise SinkError(f"{result.stream} frame {result.frame} cannot be written as JSON: {error}") from error


class JsonlSink(StreamFilesSink):
    """Writes ``<stream>.jsonl``: each line with one ``write``, so that a killed process loses none that was written.

    Args:
        path: template such as ``out/{stream}.jsonl``.
        mode: ``replace`` (replay) or ``append`` after repairing a torn tail (run).
        run_id: id of this process, for live feeds; None writes the fields of a replay only.
        rotate: when to start a new file, or None.
        fsync: see :data:`pipeline.sinks.stream_files.Fsync`; with any but ``never`` each event is synced by itself.
        events: template of the files for events of streams, such as ``out/{stream}.events.jsonl``, or None.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        mode: Mode = "replace",
        run_id: str | None = None,
        rotate: Rotate | None = None,
        fsync: Fsync = "never",
        events: str | Path | None = None,
        name: str = "jsonl",
        clock: Clock = SYSTEM,
    ) -> None:
        files = StreamFiles(path, mode=mode, opening=b'{"stream":', rotate=rotate, fsync=fsync, clock=clock)
        super().__init__(name, files)
        self._run_id = run_id
        self._events = None if events is None else EventFiles(events, rotate=rotate, durable=fsync != "never")
        self.wants_events = events is not None

    def write(self, result: Result) -> None:
        """Write one line; raises SinkError, and leaves no torn line before the next one."""
        self._files.append(result.stream, line(result, self._run_id))

    def event(self, event: StreamEvent) -> None:
        """Write one line into the stream's file of events; raises SinkError."""
        if self._events is not None:
            self._events.append(event, self._run_id)
