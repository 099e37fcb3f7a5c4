# SPDX-License-Identifier: Apache-2.0
"""Some seconds of a camera as a recording: its packets as they came, none decoded and encoded anew."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple, Protocol, cast

import av
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.errors import SourceInvalid, SourceUnavailable
from pipeline.protocols import Source
from pipeline.sources.libav import Opened
from pipeline.sources.reader import PacketWatcher
from pipeline.threads import StopFlag
from pipeline.timing import now_ns

MOST_BYTES: Final = 64 << 20
"""Of one camera's packets, in memory and then in its file."""
PATIENCE_S: Final = 10.0
"""A camera may take so much longer than the seconds that are wanted: it has to show a key frame first."""
_EARLIER_S: Final = 10
"""Decoding times begin so long before presentation times, so that they are never later, whatever the order."""
_TICKS: Final = Fraction(1, 90_000)


class Watchable(Protocol):
    """A source that shows its packets."""

    def watch(self, watcher: PacketWatcher) -> None:
        """To be called before ``open``."""
        ...


class _Kept(NamedTuple):
    data: bytes
    pts: int
    key: bool


class PacketCopy:
    """Keeps packets from the first key frame on. Implements :class:`pipeline.sources.reader.PacketWatcher`.

    Attributes:
        size: bytes so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self._packets: list[_Kept] = []
        self._opened: Opened | None = None

    def begin(self, opened: Opened) -> None:
        """See :class:`pipeline.sources.reader.PacketWatcher`."""
        self._opened = opened

    def packet(self, packet: Packet[VideoStream], read_ns: int) -> None:
        """See :class:`pipeline.sources.reader.PacketWatcher`."""
        if packet.pts is None or self._opened is None or not (self._packets or packet.is_keyframe):
            return
        pts = round(packet.pts * self._opened.time_base / _TICKS)
        self._packets.append(_Kept(bytes(packet), pts, packet.is_keyframe))
        self.size += packet.size

    @property
    def seconds(self) -> float:
        """Between the earliest and the latest frame."""
        stamps = [packet.pts for packet in self._packets]
        return float((max(stamps) - min(stamps)) * _TICKS) if stamps else 0.0

    def cut(self) -> None:
        """Leave off what was begun last, a group of pictures of which not all have come, unless it is most of all."""
        begins = max((number for number, packet in enumerate(self._packets) if packet.key), default=0)
        if begins >= len(self._packets) / 2:
            del self._packets[begins:]

    def save(self, path: Path, size: tuple[int, int]) -> None:
        """Write them into a Matroska file, while the source is still open; ``size``: width and height as coded.

        Raises SourceInvalid where that container takes no such stream, OSError where the disk refuses.
        """
        assert self._opened is not None, "begin comes first"
        try:
            with av.open(str(path), "w", "matroska") as container:
                stream = container.add_stream_from_template(self._opened.stream, opaque=True)
                stream.codec_context.width, stream.codec_context.height = size  # a camera's header need not tell it
                stream.time_base = _TICKS
                first = min(packet.pts for packet in self._packets)
                for number, kept in enumerate(self._packets):
                    packet = cast("Packet[VideoStream]", Packet(kept.data))
                    packet.stream, packet.time_base = stream, _TICKS
                    packet.pts, packet.dts = kept.pts - first + round(_EARLIER_S / _TICKS), number
                    packet.is_keyframe = kept.key
                    container.mux(packet)
        except (av.FFmpegError, ValueError) as error:
            raise SourceInvalid(f"its packets cannot be kept: {error}") from error


def capture(source: Source, path: Path, seconds: float, stop: StopFlag) -> float:
    """Read ``seconds`` of a camera, or :data:`MOST_BYTES` of it, and write its packets into ``path``.

    Returns the seconds that were kept. Raises SourceError where it does not open, or shows too little.
    """
    copy, size = PacketCopy(), (0, 0)
    cast("Watchable", source).watch(copy)
    try:
        source.open(stop)
        until_ns = now_ns() + int((seconds + PATIENCE_S) * 1e9)
        while copy.seconds < seconds and copy.size < MOST_BYTES and now_ns() < until_ns:
            shown = source.read()
            if shown is None:
                break
            rows, columns = shown.picture.planes[0].shape[:2]
            size = columns, rows
        if not copy.seconds:
            raise SourceUnavailable("it shows no two frames after a key frame", cause="decode")
        copy.cut()
        copy.save(path, size)
    finally:
        source.close()
    return copy.seconds
