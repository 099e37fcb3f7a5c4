# SPDX-License-Identifier: Apache-2.0
"""The sinks that the configuration, or ``--save``, asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.outputs import (
    CocoSinkConfig,
    CsvSinkConfig,
    JsonlSinkConfig,
    MotSinkConfig,
    SinkConfig,
    VideoSinkConfig,
)
from pipeline.config.rotation import RotateConfig, VideoRotateConfig
from pipeline.protocols import Sink
from pipeline.sinks.coco import CocoSink
from pipeline.sinks.csv_file import CsvSink
from pipeline.sinks.jsonl import JsonlSink
from pipeline.sinks.mot import MotSink
from pipeline.sinks.record_file import Rotate
from pipeline.sinks.segments import Segments
from pipeline.sinks.video import VideoSink


def sink_names(configs: Sequence[SinkConfig]) -> list[str]:
    """Their kinds, numbered by their places where there are several of a kind."""
    kinds = [config.type for config in configs]
    return [kind if kinds.count(kind) == 1 else f"{kind}-{number}" for number, kind in enumerate(kinds)]


def required_sinks(configs: Sequence[SinkConfig]) -> frozenset[str]:
    """Names of those without which the run is worthless."""
    return frozenset(name for name, config in zip(sink_names(configs), configs, strict=True) if config.required)


def sinks(configs: Sequence[SinkConfig], run_id: str) -> list[Sink]:
    """The daemon's sinks: they append to what earlier runs left."""
    made: list[Sink] = []
    for name, config in zip(sink_names(configs), configs, strict=True):
        match config:
            case JsonlSinkConfig(path=path, rotate=rotate, fsync=fsync, events_path=events):
                full = _rotate(rotate)
                made.append(
                    JsonlSink(path, mode="append", run_id=run_id, rotate=full, fsync=fsync, events=events, name=name)
                )
            case CsvSinkConfig(path=path, rotate=rotate):
                made.append(CsvSink(path, mode="append", rotate=_rotate(rotate), name=name))
            case MotSinkConfig(path=path):
                made.append(MotSink(path, mode="append", name=name))
            case CocoSinkConfig(path=path):
                made.append(CocoSink(path, mode="append", name=name))
            case VideoSinkConfig(path=path, rotate=segments):
                made.append(VideoSink(path, mode="append", rotate=_segments(segments), name=name))
    return made


def _rotate(config: RotateConfig | None) -> Rotate | None:
    return None if config is None else Rotate(config.max_mb, config.keep)


def _segments(config: VideoRotateConfig | None) -> Segments | None:
    if config is None:
        return None
    return Segments(
        config.segment_s, config.keep, config.keep_days, _bytes(config.limit_gb), _bytes(config.max_total_gb)
    )


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else round(gigabytes * 1e9)


def saved(wanted: Sequence[str], folder: Path, keep: Sequence[str] = (), run_id: str | None = None) -> list[Sink]:
    """The sinks of a replay: they replace what is in ``folder``, but for the streams in ``keep``.

    ``run_id``: of the run whose feeds are played again; their lines then have what a feed's lines have.
    """
    made: list[Sink] = []
    if "jsonl" in wanted:
        made.append(JsonlSink(folder / "{stream}.jsonl", run_id=run_id))
    if "csv" in wanted:
        made.append(CsvSink(folder / "{stream}.csv"))
    if "mot" in wanted:
        made.append(MotSink(folder / "{stream}.mot.txt"))
    if "coco" in wanted:
        made.append(CocoSink(folder, keep=keep))
    if "video" in wanted:
        made.append(VideoSink(folder / "{stream}.mp4"))
    return made
