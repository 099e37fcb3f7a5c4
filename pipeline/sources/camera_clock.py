# SPDX-License-Identifier: Apache-2.0
"""When a picture was taken, by the camera's own clock: RTCP sender reports say what wall time a time stamp means.

RFC 3550, section 6.4.1. libavformat hears them and tells with every packet what its time stamp comes to (``prft``).
Between two reports wall time and time stamps go alike, so their difference holds; it is looked at once a second.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Final

from av.packet import Packet
from av.video.stream import VideoStream

_PRODUCED: Final = struct.Struct("=q")  # of AVProducerReferenceTime: microseconds since 1970


class CameraClock:
    """The clock of one camera, as far as it tells of it; of one connection."""

    def __init__(self, time_base: Fraction) -> None:
        """``time_base``: seconds of a tick of its time stamps."""
        self._time_base = time_base
        self._second = round(1 / time_base)
        self._looked: int | None = None
        self._difference_ns: int | None = None  # wall time less time stamp

    def hear(self, packet: Packet[VideoStream]) -> None:
        """A packet as it came over the network, before pictures are put together."""
        pts = packet.pts
        if pts is None or (self._looked is not None and abs(pts - self._looked) < self._second):
            return
        self._looked = pts
        if packet.has_sidedata("prft"):
            data = bytes(packet.get_sidedata("prft"))
            if len(data) >= _PRODUCED.size:
                (wall_us,) = _PRODUCED.unpack_from(data)
                self._difference_ns = wall_us * 1000 - self._ns(pts)

    def taken_ns(self, pts: int | None) -> int | None:
        """Wall time at which the picture of this time stamp was taken, nanoseconds since 1970; None where the camera
        has not told."""
        return None if pts is None or self._difference_ns is None else self._ns(pts) + self._difference_ns

    def _ns(self, pts: int) -> int:
        return round(pts * self._time_base * 1_000_000_000)
