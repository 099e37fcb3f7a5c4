# SPDX-License-Identifier: Apache-2.0
"""A network feed (RTSP or HTTP). One connection only: :mod:`pipeline.sources.reconnecting` connects again."""

from __future__ import annotations

from typing import Literal

from pipeline.errors import SourceInvalid
from pipeline.frame import StreamInfo
from pipeline.redact import SourceUrl
from pipeline.sources.auto_skip import AutoSkip
from pipeline.sources.libav import open_video
from pipeline.sources.live import LiveSource
from pipeline.sources.opening import LIVE_CODECS, MAX_PIXELS, NETWORK_SCHEMES, Limits, Skip, url_target
from pipeline.sources.reader import StreamReader, info_of
from pipeline.threads import StopFlag


class CameraSource(LiveSource):
    """Frames of one connection to a camera.

    Nothing blocks longer than ``2 * open_timeout_s`` in :meth:`open` (connecting and probing count separately) and
    ``read_timeout_s`` in :meth:`read`; a stop that is asked for meanwhile is seen no earlier than that, since libav's
    read cannot be interrupted from outside. The end of the stream is a failure (cause ``eof``), never a regular end.

    Args:
        url: address with credentials; shown without them.
        transport: RTSP transport, ``tcp`` or ``udp``.
        parser: ``libav`` leaves it to libavformat's parser to tell where the pictures of an RTSP feed end; ``auto``
            puts those of H.264 and H.265 together here, one frame interval earlier (:mod:`access_units`).
        open_timeout_s, read_timeout_s: silence that is waited for.
        frame_timeout_s: how long packets may arrive without a frame that can be decoded.
        max_bad_packets: packets in a row that cannot be decoded before the connection is given up.
        skip: what the decoder leaves out.
        max_pixels, codecs, hwaccel, low_delay: see :class:`pipeline.sources.opening.Limits`.
    """

    def __init__(
        self,
        url: SourceUrl,
        *,
        transport: str = "tcp",
        parser: Literal["auto", "libav"] = "auto",
        open_timeout_s: float = 5.0,
        read_timeout_s: float = 5.0,
        frame_timeout_s: float = 15.0,
        max_bad_packets: int = 100,
        skip: Skip | AutoSkip = "none",
        max_pixels: int = MAX_PIXELS,
        codecs: frozenset[str] = LIVE_CODECS,
        hwaccel: str = "none",
        low_delay: bool = False,
    ) -> None:
        super().__init__()
        self._url = url
        self._transport = transport
        self._parser = parser
        self._timeouts = (open_timeout_s, read_timeout_s)
        self._frame_timeout_s = frame_timeout_s
        self._max_bad_packets = max_bad_packets
        self._limits = Limits(max_pixels, codecs, hwaccel=hwaccel, low_delay=low_delay)
        self._skip = skip

    def open(self, stop: StopFlag) -> StreamInfo:
        """Connect and probe. Size and rate may be unknown yet: probing is kept short."""
        if self._url.scheme not in NETWORK_SCHEMES:
            allowed = ", ".join(NETWORK_SCHEMES)
            raise SourceInvalid(f"{self._url}: scheme {self._url.scheme} is not allowed; expected one of {allowed}")
        open_s, read_s = self._timeouts
        target = url_target(
            self._url,
            live=True,
            transport=self._transport,
            low_delay=self._limits.low_delay,
            open_timeout_s=open_s,
            read_timeout_s=read_s,
            parsed=self._parser == "libav",
        )
        self._stop = stop
        opened = open_video(target, self._limits)
        self._reader = StreamReader(
            opened,
            target,
            self.counters,
            skip=self._skip,
            watcher=self._watcher,
            max_bad_packets=self._max_bad_packets,
            frame_timeout_s=self._frame_timeout_s,
        )
        self._reader.begin(stop)
        return info_of(opened, live=True)
