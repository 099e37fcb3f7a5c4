# SPDX-License-Identifier: Apache-2.0
"""Packets into frames, leaving out what may be left out; what that is may change from packet to packet."""

from __future__ import annotations

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.frame import SourceCounters
from pipeline.sources.hardware import running_on
from pipeline.sources.opening import Skip


class Decoder:
    """One stream's decoder.

    - ``nonref`` is left to libav: it reads the packets and passes over the frames that no other needs.
    - ``nonkey``: other packets never reach the decoder, and each key frame is drained at once. Else a stream with
      B-frames would hold key frames back for as many GOPs as it reorders frames (measured: 2 s with a key frame each
      second), and one with open GOPs would lose most of them.
    - After ``nonkey`` decoding goes on at a key frame only, and without the frames that are shown before it: they may
      need frames that were left out.

    Args:
        context: prepared by :func:`pipeline.sources.libav.open_video`.
        counters: where ``decode_errors`` and ``skipped`` are counted, and ``decoder`` is noted.
    """

    def __init__(self, context: VideoCodecContext, counters: SourceCounters) -> None:
        self._context = context
        self._counters = counters
        self._pix_fmt: str | None = None
        self._skip: Skip = "none"
        self._resumed_at: int | None = None  # pts of the key frame with which decoding went on after `nonkey`
        self._given = self._returned = 0  # packets that the decoder took, and frames or errors that it gave for them
        # Frames that it has not given back and does not hold either; None while it never left out any.
        self._missing: int | None = None

    def leaves_out(self, packet: Packet[VideoStream], skip: Skip) -> bool:
        """Set the mode from this packet on, and say whether the packet is passed over; to be asked once for each."""
        if skip != self._skip and (self._skip != "nonkey" or packet.is_keyframe):
            if self._skip == "nonkey":
                self._resumed_at = packet.pts
            if self._missing is None:
                self._missing = self._lost(ended=False)
            self._skip = skip
            self._context.skip_frame = "NONREF" if skip == "nonref" else "DEFAULT"
        if packet.is_keyframe:
            return False
        early = self._resumed_at is not None and packet.pts is not None and packet.pts < self._resumed_at
        if early or self._skip == "nonkey":
            self._counters.skipped += 1
            return True
        self._resumed_at = None
        return False

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """The frames that are complete with this packet (None: the end of the stream); raises av.FFmpegError."""
        frames: list[VideoFrame] = []
        self._given += packet is not None
        try:
            frames += self._context.decode(packet)
            if packet is not None and self._skip == "nonkey":
                frames += self._context.decode(None)
                self._context.flush_buffers()
        except av.EOFError:
            pass  # flushed before
        except av.FFmpegError:
            self._counters.decode_errors += 1
            self._returned += 1
            raise
        if frames and self._context.pix_fmt != self._pix_fmt:  # libav may change over to the CPU in mid-stream
            self._pix_fmt = self._context.pix_fmt
            self._counters.decoder = running_on(self._context)
        self._returned += len(frames)
        if self._missing is not None:
            missing = max(self._missing, self._lost(ended=packet is None or self._skip == "nonkey"))
            self._counters.skipped += missing - self._missing
            self._missing = missing
        return frames

    def _lost(self, *, ended: bool) -> int:
        held = 0 if ended else self._context.reorder_depth + self._context.thread_count
        return max(0, self._given - self._returned - held)

    def close(self) -> None:
        """Let go of what it holds.

        Frame threads may release packets, which takes the GIL, while a decoder that is freed waits for them with the
        GIL held. Flushing waits without it and leaves them idle.
        """
        self._context.flush_buffers()
