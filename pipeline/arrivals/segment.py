# SPDX-License-Identifier: Apache-2.0
"""The packets of one connection, copied into a container."""

from __future__ import annotations

from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import cast

import av
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.arrivals.layout import CONTAINER, TIME_BASE
from pipeline.sources.libav import Opened

_NOMINAL = 16
"""Side in pixels of a picture whose size is not known before the first one was decoded: a header must name one."""


class _File:
    """What libav writes into; made by the first write, in the thread that writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self.size = 0

    def write(self, data: bytes) -> int:
        if self._file is None:
            self._file = FileIO(self._path, "w")
        left = memoryview(data)
        while left:  # a disk that is nearly full takes a part, and refuses the next
            written = self._file.write(left)
            self.size += written
            left = left[written:]
        return len(data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Segment:
    """One connection's packets on the disk.

    Made by the thread that reads the connection, which alone may look at its stream; everything else is for the thread
    that writes.
    """

    def __init__(self, path: Path, opened: Opened) -> None:
        self._file = _File(path)
        self._container = av.open(self._file, "w", format=CONTAINER, options={"flush_packets": "1"})
        self._stream = self._container.add_stream_from_template(opened.stream, opaque=True)
        context = self._stream.codec_context
        if not context.width:
            context.width = context.height = _NOMINAL
        self._stream.time_base = TIME_BASE
        self._last = -1

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._file.size

    def write(self, data: bytes, at_ns: int, *, key: bool) -> None:
        """Append a packet that came at ``at_ns``; raises OSError or av.FFmpegError where the disk refuses."""
        packet = cast("Packet[VideoStream]", Packet(data))
        packet.stream = self._stream
        packet.time_base = TIME_BASE
        self._last = max(self._last + 1, int(at_ns * TIME_BASE / 1_000_000_000))
        packet.pts = packet.dts = self._last
        packet.is_keyframe = key
        self._container.mux(packet)

    def close(self) -> None:
        """Finish the file as well as that goes: what is in it can be read in any case."""
        with suppress(OSError, av.FFmpegError):
            self._container.close()
        with suppress(OSError):
            self._file.close()
