# SPDX-License-Identifier: Apache-2.0
"""The segments of all streams of a sink, also of those that nobody writes any more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from pipeline.errors import SinkError
from pipeline.sinks.paths import StreamPaths, sink_error
from pipeline.sinks.segment_names import ANY_NAME, Segment, SegmentName, files_in

_PLACEHOLDER: Final = re.escape("{stream}")


class Gallery:
    """Finds what a template such as ``out/{stream}.mp4`` names, for whatever stream.

    Taken for a segment is a regular file that the sink would have called exactly so. Folders that have a stream's name
    (``out/{stream}/video.mp4``) are looked into unless they are links: a link is followed only for a stream that the
    sink writes, since its segments go there.
    """

    def __init__(self, paths: StreamPaths) -> None:
        self._paths = paths
        self._parts = Path(paths.template).parts
        self._varies = next((at for at, part in enumerate(self._parts) if "{stream}" in part), None)

    def look(self, written: frozenset[str], unread: Callable[[str, SinkError], None]) -> dict[str, list[Segment]]:
        """Segments by stream, each stream's from the lowest number on.

        Args:
            written: streams that the sink writes.
            unread: told of a stream whose own folder cannot be read.

        Raises SinkError where the folder of all of them cannot be read.
        """
        found: dict[str, list[Segment]] = {}
        for stream, segment in self._segments(written, unread):
            found.setdefault(stream, []).append(segment)
        for segments in found.values():
            segments.sort(key=lambda segment: segment.name.number)
        return found

    def _segments(
        self, written: frozenset[str], unread: Callable[[str, SinkError], None]
    ) -> Iterator[tuple[str, Segment]]:
        if self._varies == len(self._parts) - 1:
            for (stream, name), path, size in files_in(Path(self._paths.template).parent, self._parser()):
                if size is not None:
                    yield stream, Segment(path, name, size)
            return
        for stream in self._with_folders(written):
            first = self._paths.named(stream)
            try:
                for name, path, size in files_in(first.parent, partial(SegmentName.parse, first=first)):
                    if size is not None:
                        yield stream, Segment(path, name, size)
            except SinkError as error:
                unread(stream, error)

    def _parser(self) -> Callable[[str], tuple[str, SegmentName] | None]:
        """What a file name says, where all streams share a folder: the stream and the segment."""
        last = Path(self._parts[-1])
        pattern = _whatever_stream(re.escape(last.stem) + r"\." + ANY_NAME + re.escape(last.suffix))

        def parse(text: str) -> tuple[str, SegmentName] | None:
            match = pattern.fullmatch(text)
            if match is None:
                return None
            name = SegmentName.parse(text, self._paths.named(match["stream"]))
            return None if name is None else (match["stream"], name)

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
