# SPDX-License-Identifier: Apache-2.0
"""libav's packets of single RTP payloads, put together to packets of whole pictures, as the decoder wants them."""

from __future__ import annotations

import logging
from fractions import Fraction
from typing import cast

from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.frame import SourceCounters
from pipeline.sources.access_units import AccessUnit, AccessUnits
from pipeline.sources.libav import Opened
from pipeline.sources.nal import GRAMMARS

log = logging.getLogger(__name__)


class Payloads:
    """The packets of one connection. What comes too late for its picture is counted as a decoding error.

    Args:
        opened: opened without libavformat's parser, see :attr:`pipeline.sources.libav.Opened.parsed`.
        shown: of the stream, for the log.
    """

    def __init__(self, opened: Opened, shown: str, counters: SourceCounters) -> None:
        self._stream = opened.stream
        self._time_base = opened.stream.time_base or Fraction(1, 90000)
        self._shown = shown
        self._counters = counters
        self._units = AccessUnits(GRAMMARS[opened.codec])

    def add(self, packet: Packet[VideoStream]) -> list[Packet[VideoStream]]:
        """The pictures that are complete with this payload."""
        mistakes = self._units.mistakes
        done = self._units.add(bytes(packet), packet.pts)
        if self._units.mistakes > mistakes:
            self._counters.decode_errors += 1
            log.info("%s: a picture had more parts than those before it; its rest is lost", self._shown)
        return self._packets(done)

    def flush(self) -> list[Packet[VideoStream]]:
        """What is left at the end of the stream."""
        return self._packets(self._units.flush())

    def _packets(self, units: list[AccessUnit]) -> list[Packet[VideoStream]]:
        return [self._packet(unit) for unit in units if not unit.late]

    def _packet(self, unit: AccessUnit) -> Packet[VideoStream]:
        packet = cast("Packet[VideoStream]", Packet(unit.data))
        packet.stream = self._stream
        packet.time_base = self._time_base
        packet.pts = unit.pts
        packet.is_keyframe = unit.key
        return packet
