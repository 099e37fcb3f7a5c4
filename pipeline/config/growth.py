# SPDX-License-Identifier: Apache-2.0
"""What the files of a daemon's sinks may come to: told before it runs for a year."""

from __future__ import annotations

import os
from collections import defaultdict

from pipeline.config.config import Config
from pipeline.config.document import Document
from pipeline.config.faults import Fault, KeyPath
from pipeline.config.outputs import CsvSinkConfig, JsonlSinkConfig, SinkConfig, VideoSinkConfig
from pipeline.config.streams import StreamConfig
from pipeline.figures import count

_FOR_RECORDINGS = ("mot", "coco")


def growth_warnings(config: Config, document: Document) -> list[Fault]:
    """One line per sink that grows without bound while a camera runs, and per disk that is smaller than all that its
    sinks may keep."""

    def warning(path: KeyPath, message: str) -> Fault:
        return Fault.at(document.file, document.mark(path), path, message)

    endless = [stream for stream in config.streams if stream.enabled and _is_endless(stream)]
    if not endless:
        return []
    found = []
    for index, sink in enumerate(config.sinks):
        if sink.type in _FOR_RECORDINGS or getattr(sink, "rotate", None) is None:
            why = "is a format for recordings" if sink.type in _FOR_RECORDINGS else "has rotate: false"
            name = endless[0].name
            found.append(warning(("sinks", index), f"{sink.type} {why}: with {name} it grows without bound"))
    for folder, most in _by_disk(config, len(endless)).items():
        there = _disk_bytes(folder)
        if there is not None and most > there:
            message = (
                f"the files of {count(len(endless), 'stream')} may grow to {most / 1e9:.3g} GB, the disk of {folder} "
                f"has {there / 1e9:.3g}: lower max_gb or max_mb of rotate"
            )
            found.append(warning(("sinks",), message))
    return found


def _is_endless(stream: StreamConfig) -> bool:
    """A camera, or a file that begins again at its end."""
    return stream.loop if stream.source.is_file else stream.source.scheme != "pattern"


def _by_disk(config: Config, streams: int) -> dict[str, float]:
    """Bytes that sinks may keep, by a folder of each disk."""
    folders: dict[int, str] = {}
    most: defaultdict[str, float] = defaultdict(float)
    for sink in config.sinks:
        kept = _kept_bytes(sink)
        folder = _existing(os.path.dirname(sink.path.partition("{stream}")[0]) or ".")
        if kept and folder is not None:
            shared = "{stream}" not in sink.path
            most[folders.setdefault(os.stat(folder).st_dev, folder)] += kept * (1 if shared else streams)
    return most


def _kept_bytes(sink: SinkConfig) -> float:
    """What is kept of one stream at most; 0 where that is not known."""
    match sink:
        case VideoSinkConfig(rotate=rotate) if rotate is not None:
            return (rotate.limit_gb or 0.0) * 1e9
        case JsonlSinkConfig(rotate=rotate) | CsvSinkConfig(rotate=rotate) if rotate is not None:
            return rotate.max_mb * 1e6 * (rotate.keep + 1)
    return 0.0


def _existing(folder: str) -> str | None:
    """The folder, or the nearest one above it that is there and may be looked at."""
    while not os.path.isdir(folder):
        above = os.path.dirname(folder)
        if folder in (above, ""):
            return None
        folder = above
    return folder


def _disk_bytes(folder: str) -> int | None:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_blocks * disk.f_frsize or None
