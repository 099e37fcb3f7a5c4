# SPDX-License-Identifier: Apache-2.0
"""What the files of a daemon's sinks may come to: told before it runs for a year."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field

from pipeline.config.config import Config
from pipeline.config.document import Document
from pipeline.config.faults import Fault, KeyPath
from pipeline.config.outputs import CsvSinkConfig, JsonlSinkConfig, SinkConfig, VideoSinkConfig
from pipeline.config.streams import StreamConfig
from pipeline.figures import count

_FOR_RECORDINGS = ("mot", "coco")


def growth_warnings(config: Config, document: Document) -> list[Fault]:
    """One line per sink that grows without bound while a camera runs, and per disk that has less room than all that its
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
    for disk in _by_disk(config, len(endless)):
        free = _free_bytes(disk.folder)
        taken = sum(map(_size, disk.files))
        if free is not None and disk.most > free + taken:
            message = (
                f"the files of {count(len(endless), 'stream')} may grow to {_gb(disk.most)} GB, the disk of "
                f"{disk.folder} has room for {_gb(free + taken)}, of which they take {_gb(taken)} now: "
                f"{' or '.join(disk.remedies)}"
            )
            found.append(warning(("sinks",), message))
    return found


def _is_endless(stream: StreamConfig) -> bool:
    """A camera, or a file that begins again at its end."""
    return stream.loop if stream.source.is_file else stream.source.scheme != "pattern"


@dataclass(slots=True)
class _Disk:
    """What sinks may keep on one disk.

    Attributes:
        folder: one that is there.
        most: bytes that may be kept.
        files: files that are there already, and count.
        remedies: which keys bound it.
    """

    folder: str
    most: float = 0.0
    files: set[str] = field(default_factory=set)
    remedies: dict[str, None] = field(default_factory=dict)


def _by_disk(config: Config, streams: int) -> list[_Disk]:
    disks: dict[int, _Disk] = {}
    for sink in config.sinks:
        most, remedy = _kept_bytes(sink, 1 if "{stream}" not in sink.path else streams)
        folder = _existing(os.path.dirname(sink.path.partition("{stream}")[0]) or ".")
        if most and folder is not None:
            disk = disks.setdefault(os.stat(folder).st_dev, _Disk(folder))
            disk.most += most
            disk.files.update(glob.glob(_files(sink)))
            disk.remedies[remedy] = None
    return list(disks.values())


def _kept_bytes(sink: SinkConfig, streams: int) -> tuple[float, str]:
    """What is kept of so many streams at most, 0 where that is not known; and what to do where it is too much."""
    match sink:
        case VideoSinkConfig(rotate=rotate) if rotate is not None:
            limits = [rotate.limit_gb and rotate.limit_gb * streams, rotate.max_total_gb]
            most = min(filter(None, limits), default=0.0)
            return most * 1e9, "set max_total_gb" if rotate.max_total_gb is None else "lower max_total_gb"
        case JsonlSinkConfig(rotate=rotate) | CsvSinkConfig(rotate=rotate) if rotate is not None:
            return rotate.max_mb * 1e6 * (rotate.keep + 1) * streams, "lower max_mb"
    return 0.0, ""


def _files(sink: SinkConfig) -> str:
    """A pattern for what counts: segments of video, or a file and those that were rotated."""
    stem, suffix = os.path.splitext(sink.path) if sink.type == "video" else (sink.path, "")
    parts = (f"{stem}.{{stream}}{suffix}" if sink.type == "video" else f"{stem}{{stream}}").split("{stream}")
    return "*".join(map(glob.escape, parts))


def _existing(folder: str) -> str | None:
    """The folder, or the nearest one above it that is there and may be looked at."""
    while not os.path.isdir(folder):
        above = os.path.dirname(folder)
        if folder in (above, ""):
            return None
        folder = above
    return folder


def _free_bytes(folder: str) -> int | None:
    """What a user who is not root may still write there."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else None


def _size(file: str) -> int:
    try:
        return os.lstat(file).st_size
    except OSError:  # it was removed a moment ago
        return 0


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g}" if size < 999.5e9 else f"{size / 1e9:,.0f}"
