# SPDX-License-Identifier: Apache-2.0
"""What the packets of a stream tell a probe: key frames, sizes, and which frames no other frame needs."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from pipeline.measures import SmoothedChange
from pipeline.sources import structure
from pipeline.sources.libav import Opened
from pipeline.sources.rhythm import Moment, presented
from pipeline.sources.skipping import SkipFacts
from pipeline.threads import StopFlag
from pipeline.timing import now_ns

MOST_PACKETS = 20_000
MOST_BYTES = 64 << 20
"""So far a file is read without being decoded: minutes of most recordings, well under a second of work."""

_WITH_UNREFERENCED = frozenset({"h264", "hevc", "mpeg4", "mpeg2video"})


class PacketLog:
    """Watches the packets that a source reads. Bounded by whoever reads: one short entry per packet.

    Attributes:
        container, profile, pix_fmt: names as libav knows them.
        declared_bit_rate: bits per second, or None.
    """

    def __init__(self) -> None:
        self.container = self.profile = self.pix_fmt = ""
        self.declared_bit_rate: int | None = None
        self._opened: Opened | None = None
        self._time_base = Fraction(1, 90000)
        self._interval_s: float | None = None
        self._decoded_packets = 0
        self._stamps: list[int | None] = []
        self._keys: list[int] = []
        self._ends: list[int] = []
        self._bytes = 0
        self._reordered = False
        self._transits_ns: list[int] = []
        # A second decoder that leaves out what no other frame needs shows exactly what that would keep.
        self._sparse: VideoCodecContext | None = None
        self._kept: list[int] = []

    def begin(self, opened: Opened) -> None:
        """See :class:`pipeline.sources.reader.PacketWatcher`."""
        self._opened = opened
        context = opened.stream.codec_context
        self.container = opened.format
        self._name_coding(context)
        self.declared_bit_rate = context.bit_rate or opened.container.bit_rate or None
        self._time_base = opened.time_base
        self._interval_s = 1 / opened.fps if opened.fps else None
        if opened.codec in _WITH_UNREFERENCED:
            sparse = CodecContext.create(opened.codec, "r")
            assert isinstance(sparse, VideoCodecContext)
            sparse.extradata = context.extradata
            sparse.options = dict(context.options)
            sparse.thread_count = 1
            sparse.skip_frame = "NONREF"
            self._sparse = sparse

    def _name_coding(self, context: VideoCodecContext) -> None:
        self.profile = context.profile or ""
        self.pix_fmt = "" if context.is_hwaccel else context.pix_fmt or ""  # there it is the name of the device

    def packet(self, packet: Packet[VideoStream], read_ns: int) -> None:
        """See :class:`pipeline.sources.reader.PacketWatcher`."""
        if not self.pix_fmt and self._opened is not None:  # known with the first frame of a feed
            self._name_coding(self._opened.stream.codec_context)
        self._note(packet, read_ns)
        self._decoded_packets += 1
        if self._sparse is not None:
            self._keep(packet)

    def read_on(self, stop: StopFlag) -> None:
        """Read more of a local file, without decoding it, up to :data:`MOST_PACKETS` and :data:`MOST_BYTES` in all.

        To be called while its source is still open but no longer reads.
        """
        opened = self._opened
        if opened is None or not opened.container.name.startswith("file:"):
            return
        packets = opened.container.demux(opened.stream)
        try:
            while len(self._stamps) < MOST_PACKETS and self._bytes < MOST_BYTES and not stop.is_set():
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.size:
                    self._note(packet, now_ns())
        except av.FFmpegError:
            return  # what could be read counts

    def _note(self, packet: Packet[VideoStream], read_ns: int) -> None:
        self._bytes += packet.size
        if packet.is_discard:  # an edit list leaves it out
            return
        pts = packet.pts
        if packet.is_keyframe:
            self._keys.append(len(self._stamps))
        if pts is not None:
            previous = next((stamp for stamp in reversed(self._stamps) if stamp is not None), None)
            self._reordered |= previous is not None and pts < previous
            self._ends.append(pts + (packet.duration or 0))
            self._transits_ns.append(read_ns - int(pts * self._time_base * 1_000_000_000))
        self._stamps.append(pts)

    def shortfall(self) -> str | None:
        """Why a local file is known to be cut short, by its bytes, or None; to be asked before :meth:`finish`."""
        opened = self._opened
        if opened is None or not opened.container.name.startswith("file:"):
            return None
        try:
            return structure.shortfall(Path(opened.container.name.removeprefix("file:")), opened.format)
        except OSError:
            return None  # gone meanwhile

    def finish(self) -> None:
        """No more packets will come."""
        if self._sparse is not None:
            self._keep(None)
            self._sparse = None
        self._opened = None

    @property
    def moments(self) -> list[Moment]:
        """When the frames of the packets are shown, in order; nothing where a packet does not say."""
        return presented(self._stamps, self._time_base, self._interval_s)

    @property
    def b_frames(self) -> bool:
        """Packets came in another order than their frames are shown."""
        return self._reordered

    @property
    def gops(self) -> list[int]:
        """Packets from each key frame to the next."""
        return [after - before for before, after in pairwise(self._keys)]

    @property
    def arrival_jitter_ms(self) -> float | None:
        """RFC 3550 interarrival jitter; a measure of the network only for a feed without B-frames."""
        if len(self._transits_ns) < 2 or self._reordered:
            return None
        jitter = SmoothedChange()
        jitter.add(np.array(self._transits_ns, np.int64)[:, None])
        return float(jitter.value_ns[0]) / 1e6

    @property
    def bit_rate(self) -> float | None:
        """Bits per second of pts."""
        known = [stamp for stamp in self._stamps if stamp is not None]
        span = float((max(self._ends) - min(known)) * self._time_base) if known else 0.0
        return 8 * self._bytes / span if span > 0 else None

    def skip_facts(self) -> SkipFacts:
        """What leaving out frames in the decoder would do."""
        keys = [stamp for index in self._keys if (stamp := self._stamps[index]) is not None]
        saves = 1.0 - len(self._kept) / self._decoded_packets if self._kept and self._decoded_packets else 0.0
        return SkipFacts(self._longest(keys), self._longest(self._kept), max(0.0, saves))

    def _longest(self, stamps: list[int]) -> float | None:
        ordered = sorted(stamps)
        gaps = [after - before for before, after in pairwise(ordered)]
        return float(max(gaps) * self._time_base) if gaps else None

    def _keep(self, packet: Packet[VideoStream] | None) -> None:
        if self._sparse is None:
            return
        try:
            self._kept += [frame.pts for frame in self._sparse.decode(packet) if frame.pts is not None]
        except av.FFmpegError:
            return  # the source's own decoder meets the same packet and counts it
