# SPDX-License-Identifier: Apache-2.0
"""RTP and RTCP packets: RFC 3550, with payloads of H.264 (RFC 6184) and HEVC (RFC 7798)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

CLOCK = 90_000
"""Ticks of a video time stamp per second."""
PAYLOAD_TYPE = 96
LARGEST = 1400
"""Bytes of a payload, so that a datagram fits an Ethernet frame."""
_NTP_EPOCH_S = 2_208_988_800
"""From 1900 to 1970."""


def payloads(codec: str, nal: bytes, largest: int = LARGEST) -> Iterator[bytes]:
    """A NAL unit as it is where it fits, else in fragments (FU-A of H.264, FU of HEVC)."""
    if len(nal) <= largest:
        yield nal
        return
    if codec == "h264":
        indicator, kind, content = bytes((nal[0] & 0xE0 | 28,)), nal[0] & 0x1F, nal[1:]
    else:
        indicator, kind, content = bytes((nal[0] & 0x81 | 49 << 1, nal[1])), (nal[0] >> 1) & 0x3F, nal[2:]
    size = largest - len(indicator) - 1
    for start in range(0, len(content), size):
        first, last = start == 0, start + size >= len(content)
        yield indicator + bytes((first << 7 | last << 6 | kind,)) + content[start : start + size]


class Sender:
    """Numbers and counts what one receiver gets."""

    def __init__(self, ssrc: int, sequence: int = 0) -> None:
        self.ssrc = ssrc
        self.sequence = sequence
        self._packets = 0
        self._octets = 0

    def packets(self, parts: Sequence[bytes], stamp: int) -> list[bytes]:
        """The packets of one access unit; the last has the marker."""
        sequence, last = self.sequence, len(parts) - 1
        made = [
            struct.pack(
                ">BBHII",
                0x80,
                PAYLOAD_TYPE | (0x80 if index == last else 0),
                (sequence + index) & 0xFFFF,
                stamp & 0xFFFFFFFF,
                self.ssrc,
            )
            + part
            for index, part in enumerate(parts)
        ]
        self.sequence = (sequence + len(parts)) & 0xFFFF
        self._packets += len(parts)
        self._octets += sum(map(len, parts))
        return made

    def report(self, wall_ns: int, stamp: int) -> bytes:
        """A sender report, which says what wall time a time stamp means, and who sends (RFC 3550 6.4.1, 6.5)."""
        seconds, rest_ns = divmod(wall_ns, 1_000_000_000)
        fraction = (rest_ns << 32) // 1_000_000_000
        head = struct.pack(">BBHIII", 0x80, 200, 6, self.ssrc, (seconds + _NTP_EPOCH_S) & 0xFFFFFFFF, fraction)
        counts = struct.pack(">III", stamp & 0xFFFFFFFF, self._packets & 0xFFFFFFFF, self._octets & 0xFFFFFFFF)
        return head + counts + self._description()

    def goodbye(self) -> bytes:
        """An empty receiver report, who sends, and BYE (RFC 3550 6.6)."""
        report, bye = (struct.pack(">BBHI", *head, 1, self.ssrc) for head in ((0x80, 201), (0x81, 203)))
        return report + self._description() + bye

    def _description(self) -> bytes:
        items = b"\x01\x06camera\0\0\0\0"
        return struct.pack(">BBHI", 0x81, 202, 1 + len(items) // 4, self.ssrc) + items
