# SPDX-License-Identifier: Apache-2.0
"""The demux and decode loop that all libav sources share: packets in, captures out, every fault counted."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, cast

import av
from av.codec.context import ThreadType
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import DecodeError, SourceError, SourceTimeout, SourceUnavailable
from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.sources.auto_skip import AutoSkip
from pipeline.sources.camera_clock import CameraClock
from pipeline.sources.decoding import Decoder
from pipeline.sources.libav import Opened, explain
from pipeline.sources.opening import Skip, Target
from pipeline.sources.payloads import Payloads
from pipeline.sources.pictures import PictureMaker
from pipeline.sources.timeline import Timeline
from pipeline.threads import StopFlag


@dataclass(slots=True)
class _Stamps:
    """Of one packet, which the decoder hands on to its frame: when it was read, wall time of feeds, when the call that
    decoded it ended, and wall time by the camera's clock."""

    read_ns: int
    wall_ns: int | None
    decoded_ns: int = 0
    camera_ns: int | None = None


_HALT_NS = 1_000_000_000
"""libav looks ten times a second whether the limit of a read is over. Noticed so much later, it was this machine that
did nothing (stopped, suspended, swapping). What the peer sent meanwhile waits in the socket, so the connection may be
well: it is read on, and libav finds the beginning of a packet again. If not, the next limit is kept."""
_LONG_GOP = 4
"""A feed of which only key frames are decoded may show nothing for so many times the usual limit."""


class PacketWatcher(Protocol):
    """Somebody who looks at the packets that pass, see :mod:`pipeline.sources.probe`."""

    def begin(self, opened: Opened) -> None:
        """The container is open; nothing has been read."""
        ...

    def packet(self, packet: Packet[VideoStream], read_ns: int) -> None:
        """A packet was read at ``read_ns`` (monotonic); its decoding comes next."""
        ...


def info_of(opened: Opened, *, live: bool) -> StreamInfo:
    """What the container says of its video stream, nameless; the size is the coded one, 0 where not known yet."""
    stream, context = opened.stream, opened.stream.codec_context
    duration = None
    if stream.duration is not None and stream.time_base:
        duration = float(stream.duration * stream.time_base)
    elif opened.container.duration is not None:
        duration = opened.container.duration / av.time_base
    return StreamInfo(
        name="",
        width=context.width,
        height=context.height,
        fps=opened.fps,
        frames=stream.frames or None,
        duration_s=None if live else duration,
        live=live,
        codec=opened.codec,
    )


class StreamReader:
    """Decodes one opened stream. Owned by the reading thread from construction to :meth:`close`.

    A frame's ``read_ns`` is that of its own packet, which the decoder hands back in the frame's opaque field; it holds
    with B-frames and frame threads. So is its ``decoded_ns``: while the decoder keeps a frame until those before it
    were shown, it is not being decoded. With frame threads a call says nothing of the work, and it is when the frame
    came. For a feed, errors of the connection are raised; for a recording the first one ends it, and :attr:`failure`
    keeps the error.

    Args:
        opened: closed by :meth:`close`.
        target: what it was opened from.
        counters: where faults are counted.
        skip: what the decoder leaves out.
        watcher: is shown each packet, or None.
        max_bad_packets: packets in a row that cannot be decoded before DecodeError; None: any number.
        frame_timeout_s: how long packets may arrive without a frame before SourceTimeout; None: for ever.

    Attributes:
        packets, empty_packets: video packets read, and those without content.
        end_s: where the last frame that was read ends, in the container's own time (packet pts plus duration).
        failure: the error that ended a recording early, or None.
    """

    def __init__(
        self,
        opened: Opened,
        target: Target,
        counters: SourceCounters,
        *,
        skip: Skip | AutoSkip = "none",
        watcher: PacketWatcher | None = None,
        max_bad_packets: int | None = None,
        frame_timeout_s: float | None = None,
    ) -> None:
        self._opened = opened
        self._target = target
        self._counters = counters
        self._skip = skip
        self._watcher = watcher
        self._max_bad = max_bad_packets
        self._frame_timeout_ns = None if frame_timeout_s is None else int(frame_timeout_s * 1e9)
        self._decoder = Decoder(opened.stream.codec_context, counters)
        self._packets: Iterator[Packet[VideoStream]] = opened.packets()
        self._payloads = None if opened.parsed else Payloads(opened, target.shown, counters)
        self._frames: deque[tuple[VideoFrame, int]] = deque()
        self._pictures = PictureMaker()
        self._time_base = opened.time_base
        # The parser keeps packets back and mixes up what came with them.
        self._camera_clock = None if self._payloads is None else CameraClock(self._time_base)
        self._timeline = Timeline(self._time_base, 1 / opened.fps if opened.fps else None, live=target.live)
        self._bad_in_a_row = 0
        self._fruitless_ns = 0  # since when packets have come without a frame
        self._clock = opened.clock
        self._now = self._clock.now_ns
        self._last_read = _Stamps(self._now(), None)
        context = opened.stream.codec_context
        self._calls_decode = not (context.thread_count > 1 and context.thread_type & ThreadType.FRAME)
        self._index = 0
        self._ended = False
        self._lost: SourceError | None = None  # how the connection ended; raised when its last frames were read
        self.packets = 0
        self.empty_packets = 0
        self.end_s: float | None = None
        self.failure: SourceError | None = None
        if watcher is not None:
            watcher.begin(opened)
        if isinstance(skip, AutoSkip):
            skip.begin(opened)

    @property
    def ended(self) -> bool:
        """Whether the last packet was read and the decoder is empty."""
        return self._ended and not self._frames

    @property
    def interval_s(self) -> float:
        """Declared or last interval between two frames."""
        return self._timeline.interval_s

    def read(self, stop: StopFlag) -> Capture | None:
        """The next frame, or None at the end or once ``stop`` is set; raises SourceError (a feed only)."""
        while not self._frames:
            if self._ended or stop.is_set():
                return None
            self._advance()
        frame, decoded_ns = self._frames.popleft()
        own = cast("_Stamps | None", frame.opaque)
        if own is not None and own.decoded_ns and self._calls_decode:
            decoded_ns = own.decoded_ns
        stamps = own or self._last_read
        read_ns = stamps.read_ns
        timeline = self._timeline
        pts_s = timeline.place(frame.pts, read_ns)
        self._counters.discontinuities = timeline.breaks
        index = self._index
        self._index = index + 1
        picture = self._pictures.make(frame)
        return Capture(
            picture, index, pts_s, read_ns, decoded_ns, stamps.wall_ns, timeline.epoch, frame.is_corrupt,
            camera_ns=stamps.camera_ns,
        )  # fmt: skip

    def begin(self, stop: StopFlag) -> None:
        """Decode the first picture of a feed that libav did not look into, so that its size is known.

        Its frames are kept for :meth:`read`. Raises SourceError.
        """
        while self._payloads is not None and not self.packets and not stop.is_set():
            self._advance()

    def close(self) -> None:
        """Drop the decoder and close the container."""
        self._frames.clear()
        self._decoder.close()
        self._packets = iter(())
        self._opened.container.close()
        self._ended = True

    def _advance(self) -> None:
        """Read one packet and decode what is complete with it."""
        if self._lost is not None:
            try:
                raise self._lost
            finally:
                self._lost = None  # its traceback knows this reader, which would hold itself and all that libav gave it
        began_ns = self._now()
        try:
            packet = next(self._packets, None)
        except IndexError:
            # A packet of a track that was not there when the demuxer was asked: MPEG-TS may announce one at any time,
            # and PyAV (18.1) trips over it. Asked anew, it knows of that track and passes it over.
            self._packets = self._opened.packets()
            return
        except av.FFmpegError as exc:
            late_ns = self._late_ns(self._now() - began_ns)
            if self._target.live and late_ns > _HALT_NS:
                self._packets = self._opened.packets()
                return
            if not self._ended_unsized(exc):
                late = late_ns > 0
                error = explain(exc, self._target.shown, live=self._target.live, opening=False, late=late)
                if self._target.live:
                    self._lose(error, exc)
                    return
                self.failure = error
            packet = None
        if packet is None:
            if self._target.live:
                self._lose(SourceUnavailable(f"{self._target.shown}: the feed ended", cause="eof"))
                return
            self._ended = True
            self._decode(None)
            return
        if packet.size == 0:  # a frame that the recorder left out; given to the decoder it would mean the end
            self.empty_packets += 1
            return
        self._last_read = _Stamps(self._now(), self._clock.wall_ns() if self._target.live else None)
        if self._payloads is None or self._camera_clock is None:
            self._take(packet)
            return
        self._camera_clock.hear(packet)
        whole = self._payloads.add(packet)
        for picture in whole:
            self._take(picture)
        if not whole:
            self._expect_a_frame(self._last_read.read_ns, _LONG_GOP)  # what comes may be left out

    def _lose(self, error: SourceError, cause: Exception | None = None) -> None:
        """The connection is gone; what it brought before is still shown."""
        error.__cause__ = None if cause is None else cause.with_traceback(None)
        self._lost = error
        for picture in self._payloads.flush() if self._payloads is not None else ():
            self._take(picture)

    def _take(self, packet: Packet[VideoStream]) -> None:
        """Decode a packet, unless it is to be left out."""
        stamps = self._last_read = _Stamps(self._last_read.read_ns, self._last_read.wall_ns)
        if self._camera_clock is not None:
            stamps.camera_ns = self._camera_clock.taken_ns(packet.pts)
        self.packets += 1
        if packet.pts is not None:
            end = float((packet.pts + (packet.duration or 0)) * self._time_base)
            if self.end_s is None or end > self.end_s:
                self.end_s = end
        if self._watcher is not None:
            self._watcher.packet(packet, stamps.read_ns)
        skip = self._skip.choose(packet) if isinstance(self._skip, AutoSkip) else self._skip
        if self._decoder.leaves_out(packet, skip):
            self._expect_a_frame(stamps.read_ns, _LONG_GOP)
            return
        packet.opaque = stamps
        self._decode(packet)

    def _late_ns(self, waited_ns: int) -> int:
        """By how much a read was longer than its limit; 0 where it was not, or has none."""
        limit = self._target.timeout
        return 0 if limit is None else max(0, waited_ns - int(limit[1] * 1e9))

    def _ended_unsized(self, exc: av.FFmpegError) -> bool:
        """Whether this is how libav reports the end of an HTTP body of unknown length: as an input/output error."""
        http = self._target.address.startswith("http")
        return http and exc.errno == errno.EIO and self._opened.container.size < 0

    def _decode(self, packet: Packet[VideoStream] | None) -> None:
        frames: list[VideoFrame] = []
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError as exc:
            if isinstance(exc, MemoryError) and self._target.live:
                raise explain(exc, self._target.shown, live=True, opening=False) from exc
            self._bad_in_a_row += 1
            if self._max_bad is not None and self._bad_in_a_row >= self._max_bad:
                raise DecodeError(
                    f"{self._target.shown}: {self._bad_in_a_row} packets in a row could not be decoded"
                ) from exc
        decoded_ns = self._now()
        if packet is not None:
            self._last_read.decoded_ns = decoded_ns
        if frames:
            self._bad_in_a_row = 0
            self._fruitless_ns = 0
            for frame in frames:
                self._frames.append((frame, decoded_ns))
        else:
            self._expect_a_frame(decoded_ns)

    def _expect_a_frame(self, at_ns: int, patience: int = 1) -> None:
        """Raise SourceTimeout where packets have come for too long without one.

        It counts from the first of them: where this machine stood still, it was not the feed that did.
        """
        self._fruitless_ns = self._fruitless_ns or at_ns
        silence_ns = at_ns - self._fruitless_ns
        if self._frame_timeout_ns is not None and silence_ns > patience * self._frame_timeout_ns:
            raise SourceTimeout(
                f"{self._target.shown}: data arrives, but no frame for {silence_ns / 1e9:.1f} s", cause="stall"
            )
