# SPDX-License-Identifier: Apache-2.0
"""A recording of arrivals, opened to be played: what it is of, and its lines one after the other.

It may be anybody's, or damaged: what is not a plain file is not opened, what is too long to be true is not read, and a
folder whose name no stream can have is none of a stream.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline.arrivals.layout import ABOUT, ARRIVALS, FORMAT, FRAMES, SERVICES
from pipeline.arrivals.services import ServiceTimes
from pipeline.config.values import NAME_PATTERN
from pipeline.errors import UsageError

MOST_BYTES: Final = 64 << 20
"""Of a document: many times what a run of hundreds of streams writes."""
LONGEST_LINE: Final = 1 << 16
"""Bytes of a log's line: many times the longest that is written."""
_NAME = re.compile(NAME_PATTERN)
_MOST_FPS = 1000
_MOST_NS = 1 << 62
"""In 2116 wall time is there."""


class Recording:
    """One recording. Raises UsageError where the folder holds none that this program can play.

    Attributes:
        folder: where it lies.
        run: id of the run that it was made of.
        wall_ns: wall time of its beginning, nanoseconds since the epoch (UTC).
        first_ns: time in it at which the first thing happened to a stream.
        streams: names of those with packets, in the order of the configuration.
        absent: names of those that were to be read, and of which nothing is there.
        model, settings: see :func:`pipeline.arrivals.about.settings_of`; facts of the model beside.
        services: how long batches took.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = _about(folder)
        try:
            self.run = str(about["run"])
            self.wall_ns = _time(about["wall_ns"])
            self.model: dict[str, Any] = dict(about["model"])
            self.settings: dict[str, Any] = dict(about["settings"])
            configured: dict[str, Any] = dict(self.settings["streams"])
            self.services = ServiceTimes(_document(folder / SERVICES) if (folder / SERVICES).exists() else {})
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if "format" in about and "settings" not in about:
                raise UsageError(f"{folder}: holds nothing to play: the run ended before its first stream") from error
            raise UsageError(f"{folder}: is damaged: {ABOUT} or {SERVICES} is not what was written") from error
        there = sorted(path.parent.name for path in folder.glob(f"*/{ARRIVALS}") if _NAME.fullmatch(path.parent.name))
        names = [*(name for name in configured if name in there), *(name for name in there if name not in configured)]
        self.streams = [name for name in names if any("opened" in line for line in self.arrivals(name))]
        if not self.streams:
            raise UsageError(f"{folder}: holds no packets: no stream was ever reached, or none could be recorded")
        self.absent = [name for name in configured if name not in self.streams]
        self.first_ns = min(next(self.arrivals(name))["at"] for name in self.streams)

    def settings_of(self, name: str) -> dict[str, Any]:
        """Of a stream; nothing where a reload added it later."""
        return dict(self.settings["streams"].get(name, {}))

    def kind(self, name: str) -> str:
        """``camera`` or ``recording``, see :class:`pipeline.arrivals.stream_recorder.StreamRecorder`."""
        return str(next(line["kind"] for line in self.arrivals(name) if "opened" in line))

    def arrivals(self, name: str) -> Iterator[dict[str, Any]]:
        """Connections, packets and conditions of a stream."""
        return _lines(self.folder / name / ARRIVALS, _is_arrival)

    def frames(self, name: str) -> Iterator[dict[str, Any]]:
        """What became of its frames, in their order."""
        return _lines(self.folder / name / FRAMES, _is_frame)


def _about(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: {'is not a folder' if folder.exists() else 'there is no such folder'}")
    if not (folder / ABOUT).is_file():
        raise UsageError(f"{folder}: holds no recording of arrivals: there is no {ABOUT} in it")
    about = _document(folder / ABOUT)
    if about.get("format") != FORMAT:
        raise UsageError(f"{folder}: has format {about.get('format')}; this program plays format {FORMAT}")
    return about


def _document(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path}: is damaged: it is not what was written")
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is damaged'}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: is damaged")
    return found


def _lines(path: Path, known: Callable[[dict[str, Any]], bool]) -> Iterator[dict[str, Any]]:
    """Up to the first line that is torn or damaged: what was written after it nobody can vouch for."""
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            while text := file.readline(LONGEST_LINE):
                try:
                    line = orjson.loads(text)
                except orjson.JSONDecodeError:
                    return
                if not text.endswith(b"\n") or not isinstance(line, dict) or not known(line):
                    return
                yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def _is_arrival(line: dict[str, Any]) -> bool:
    if not _whole(line, "at"):
        return False
    if "opened" in line:
        base, fps = line.get("time_base"), line.get("fps")
        return (
            _whole(line, "opened", "width", "height")
            and line.get("kind") in ("camera", "recording")
            and isinstance(line.get("codec"), str)
            and re.fullmatch("[ -~]{4}", str(line.get("tag", "none"))) is not None
            and isinstance(base, list)
            and len(base) == 2
            and all(type(part) is int and 0 < part < 1 << 31 for part in base)
            and "fps" in line
            and (fps is None or (isinstance(fps, int | float) and 0 < fps < _MOST_FPS))
        )
    if "packet" in line:
        pts = line.get("pts")
        stamped = "pts" in line and (pts is None or (type(pts) is int and abs(pts) < 1 << 62))
        gap = {"gap": 0} | line
        return stamped and _whole(gap, "packet", "size", "gap") and isinstance(line.get("key"), bool)
    return isinstance(line.get("state"), str) and isinstance(line.get("cause", ""), str)


def _is_frame(line: dict[str, Any]) -> bool:
    marks = (mark for mark in ("decoded", "prepare", "prepared", "queued") if mark in line)
    return isinstance(line.get("outcome"), str) and _whole(line, "frame", "read", *marks)


def _time(value: Any) -> int:
    """Nanoseconds since the epoch; raises ValueError where they cannot be."""
    if type(value) is not int or not 0 <= value < _MOST_NS:
        raise ValueError("no time")
    return value


def _whole(line: dict[str, Any], *names: str) -> bool:
    """These are numbers of things, or nanoseconds since the beginning: 73 years at most."""
    return all(type(line.get(name)) is int and 0 <= line[name] < 1 << 61 for name in names)
