# SPDX-License-Identifier: Apache-2.0
"""The packets of one connection, copied into a container."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from io import BytesIO, FileIO
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.arrivals.layout import CONTAINER, TIME_BASE
from pipeline.sources.isolation.relay import Track
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

    def __init__(self, path: Path, add: Callable[[OutputContainer], VideoStream]) -> None:
        self._file = _File(path)
        self._container = av.open(self._file, "w", format=CONTAINER, options={"flush_packets": "1"})
        self._stream = add(self._container)
        context = self._stream.codec_context
        if not context.width:
            context.width = context.height = _NOMINAL
        self._stream.time_base = TIME_BASE
        self._last = -1

    @classmethod
    def like(cls, path: Path, opened: Opened) -> Segment:
        """Of a container that is open here; raises av.FFmpegError or ValueError."""
        return cls(path, lambda container: container.add_stream_from_template(opened.stream, opaque=True))

    @classmethod
    def of(cls, path: Path, track: Track) -> Segment:
        """Of a container that is open in another process; raises av.FFmpegError or ValueError.

        What that says of its video is written down and not looked into.
        """

        def add(container: OutputContainer) -> VideoStream:
            with _nothing_but(track.codec) as template:
                stream = container.add_stream_from_template(template.streams.video[0], opaque=True)
            context = stream.codec_context
            context.width, context.height, context.extradata = track.width, track.height, track.extradata or None
            return stream

        return cls(path, add)

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


def _nothing_but(codec: str) -> InputContainer:
    """A container with a track of this codec, of which nothing else is said. A stream is made by no other way than
    after one that libav reads."""
    file = BytesIO()
    with av.open(file, "w", format=CONTAINER) as container:
        stream = container.add_mux_stream(codec, width=_NOMINAL, height=_NOMINAL, time_base=TIME_BASE)
        packet = Packet(b"\0\0\0\1\0")  # a start code, for codecs that look for one
        packet.stream, packet.time_base = stream, TIME_BASE
        packet.pts = packet.dts = 0
        container.mux(packet)
    file.seek(0)
    options = {"fflags": "+noparse+nofillin", "analyzeduration": "0"}
    return av.open(file, "r", format=CONTAINER, options=options)
