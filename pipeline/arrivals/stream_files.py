# SPDX-License-Identifier: Apache-2.0
"""What is written of one stream: the writing thread's part of it."""

from __future__ import annotations

from collections import Counter
from io import BufferedWriter
from pathlib import Path
from typing import Any, Protocol

import orjson

from pipeline.arrivals.layout import ARRIVALS, segment
from pipeline.arrivals.segment import Segment


class Losing(Protocol):
    """Who counts what nobody will write."""

    def lose(self, packets: int, lines: int = 0) -> None:
        """Packets, and lines that are not of packets."""
        ...


class StreamFiles:
    """The files of one stream, whoever reads it: a reload, or a reader that hung, begins it anew, and they go on.

    Args:
        folder: of the stream; is made with the first thing that is written.
        desk: counts what a file could not keep.

    Attributes:
        folder: see above.
        reader: who reads the stream now: the last that began to.
        packets: written so far.
    """

    def __init__(self, folder: Path, desk: Losing) -> None:
        self.folder = folder
        self.reader: object = None
        self.packets = 0
        self._desk = desk
        self._connections = 0
        self._open: Segment | None = None
        self._files: dict[str, BufferedWriter] = {}
        self._held: Counter[str] = Counter()  # lines since a file was last flushed
        self._written = 0  # bytes, but for the segment that is open

    def next_connection(self) -> tuple[int, Path]:
        """Its number, from 1, and where its packets go. For whoever reads the stream."""
        self._connections += 1
        return self._connections, segment(self.folder, self._connections)

    @property
    def size(self) -> int:
        """Bytes so far; any thread may ask."""
        under_way = self._open
        return self._written + (0 if under_way is None else under_way.size)

    def write_line(self, name: str, line: dict[str, Any]) -> None:
        """Append a line to one of the stream's files; raises OSError."""
        file = self._files.get(name)
        if file is None:
            self.folder.mkdir(exist_ok=True)
            file = self._files[name] = (self.folder / name).open("ab")
        self._written += file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self._held[name] += 1

    def write_opened(self, new: Segment, facts: dict[str, Any]) -> None:
        """A connection is open; raises OSError, as everything here that writes."""
        self._close_segment()
        self._open = new
        self.write_line(ARRIVALS, facts)

    def write_packet(self, into: Segment, data: bytes, line: dict[str, Any]) -> None:
        """A packet of the connection that is open; raises OSError or av.FFmpegError."""
        into.write(data, line["at"], key=line["key"])
        self.write_line(ARRIVALS, line)  # after its packet, so that a line without one is torn and nothing else
        self.packets += 1

    def flush(self) -> None:
        """Hand what is buffered to the system; raises OSError."""
        for name, file in self._files.items():
            file.flush()
            self._held[name] = 0

    def close(self) -> None:
        """Close all files; what cannot be written any more is lost with the disk that refused it."""
        self._close_segment()
        for name, file in self._files.items():
            try:
                file.close()
            except OSError:
                file.raw.close()
                self._desk.lose(0, self._held[name])
        self._files.clear()
        self._held.clear()

    def _close_segment(self) -> None:
        if self._open is not None:
            ended, self._open = self._open, None
            ended.close()
            self._written += ended.size
