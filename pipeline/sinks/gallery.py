# SPDX-License-Identifier: Apache-2.0
"""The segments of all streams of a sink, also of those that are no longer written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Final

from pipeline.errors import SinkError
from pipeline.sinks.paths import StreamPaths, sink_error
from pipeline.sinks.segment_names import ANY_NAME, Segment, SegmentName, size_of

_PLACEHOLDER: Final = re.escape("{stream}")

Parse = Callable[[str], tuple[str, SegmentName] | None]
"""What a file name says: the stream and the segment."""


class Gallery:
    """Finds what a template such as ``out/{stream}.mp4`` names, for whatever stream.

    Taken for a segment is a regular file that the sink would have called exactly so. Folders that have a stream's name
    (``out/{stream}/video.mp4``) are looked into unless they are links: a link is followed only for a stream that the
    sink writes, since its segments go there.

    A second look costs little: a file that was seen before is not looked at again, unless it was the newest of its
    stream, which may have grown.
    """

    def __init__(self, paths: StreamPaths) -> None:
        self._paths = paths
        self._parts = Path(paths.template).parts
        self._varies = next((at for at, part in enumerate(self._parts) if "{stream}" in part), None)
        self._seen: dict[str, tuple[str, Segment] | None] = {}  # by path; None for what is no segment

    def look(self, written: frozenset[str], unread: Callable[[str, SinkError], None]) -> dict[str, list[Segment]]:
        """Segments by stream, each stream's from the lowest number on.

        Args:
            written: streams that the sink writes.
            unread: told of a stream whose own folder cannot be read.

        Raises SinkError where the folder of all of them cannot be read.
        """
        seen: dict[str, tuple[str, Segment] | None] = {}
        if self._varies == len(self._parts) - 1:
            self._read(Path(self._paths.template).parent, self._parser(), seen)
        else:
            for stream in self._with_folders(written):
                try:
                    self._read(self._paths.named(stream).parent, self._parser_of(stream), seen)
                except SinkError as error:
                    unread(stream, error)
        lines: dict[str, list[tuple[int, str, Segment]]] = {}
        for at, known in seen.items():
            if known is not None:
                stream, segment = known
                lines.setdefault(stream, []).append((segment.name.number, at, segment))
        for line in lines.values():
            line.sort(key=itemgetter(0))
            _, newest, _ = line[-1]
            del seen[newest]
        self._seen = seen
        return {stream: [segment for _, _, segment in line] for stream, line in lines.items()}

    def _read(self, folder: Path, parse: Parse, seen: dict[str, tuple[str, Segment] | None]) -> None:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    known = entry.path in self._seen
                    seen[entry.path] = self._seen[entry.path] if known else _segment(entry, parse)
        except OSError as error:
            raise sink_error("read the folder", folder, error) from error

    def _parser(self) -> Parse:
        """Where all streams share a folder."""
        last = Path(self._parts[-1])
        pattern = _whatever_stream(re.escape(last.stem) + r"\." + ANY_NAME + re.escape(last.suffix))
        named = cache(self._paths.named)  # a stream has many segments

        def parse(text: str) -> tuple[str, SegmentName] | None:
            match = pattern.fullmatch(text)
            name = None if match is None else SegmentName.parse(text, named(match["stream"]))
            return None if match is None or name is None else (match["stream"], name)

        return parse

    def _parser_of(self, stream: str) -> Parse:
        """Where a stream has a folder to itself."""
        first = self._paths.named(stream)

        def parse(text: str) -> tuple[str, SegmentName] | None:
            name = SegmentName.parse(text, first)
            return None if name is None else (stream, name)

        return parse

    def _with_folders(self, written: frozenset[str]) -> list[str]:
        """Streams that have a folder of their own, or the only one that a template without ``{stream}`` may have."""
        if self._varies is None:
            return sorted(written)[:1]
        above = Path(*self._parts[: self._varies])
        pattern = _whatever_stream(re.escape(self._parts[self._varies]))
        try:
            matches = [pattern.fullmatch(folder.name) for folder in above.iterdir()]
        except OSError as error:
            raise sink_error("read the folder", above, error) from error
        names = sorted(match["stream"] for match in matches if match is not None)
        return [name for name in names if self._is_ours(self._paths.named(name).parent, name in written)]

    def _is_ours(self, folder: Path, written: bool) -> bool:
        assert self._varies is not None, "there is no folder of a stream's own"
        own = [folder, *folder.parents][: len(self._parts) - 1 - self._varies]
        return folder.is_dir() and (written or not any(part.is_symlink() for part in own))


def _whatever_stream(pattern: str) -> re.Pattern[str]:
    """A pattern in which ``{stream}`` was escaped: the first is any stream's name, the others are the same one."""
    once = pattern.replace(_PLACEHOLDER, "(?P<stream>[A-Za-z0-9_-]{1,64})", 1)
    return re.compile(once.replace(_PLACEHOLDER, "(?P=stream)"))


def _segment(entry: os.DirEntry[str], parse: Parse) -> tuple[str, Segment] | None:
    told = parse(entry.name)
    size = None if told is None else size_of(entry)
    return None if told is None or size is None else (told[0], Segment(Path(entry.path), told[1], size))
