# SPDX-License-Identifier: Apache-2.0
"""What the first bytes of NAL units of H.264 and H.265 say: which packets hold a frame that no other frame needs, and
where pictures begin, which of them are key frames.

ITU-T H.264, 7.3.1, 7.4.1 (``nal_ref_idc``, ``nal_unit_type``) and 7.4.1.2.3 (first NAL unit of a picture); D.1.8
(recovery point). ITU-T H.265, 7.3.1.2, table 7-1 and 7.4.2.4.4. libav's decoders and parsers go by the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

Unneeded = Callable[[memoryview], bool]
"""Whether a packet holds a frame that no other frame needs."""

_LOOKED_AT: Final = 4096  # the first slice lies behind a few short parameter sets


def unneeded_by(codec: str, extradata: bytes | None) -> Unneeded | None:
    """The test for packets of ``codec``, or None where there is none.

    ``extradata`` tells how NAL units are set apart: by their length (MP4, Matroska) or by start codes (RTSP, MPEG-TS).
    """
    told = {"h264": (_h264, 4), "hevc": (_hevc, 21)}.get(codec)
    if told is None:
        return None
    verdict, at = told
    size = (extradata[at] & 3) + 1 if extradata and len(extradata) > at and extradata[0] == 1 else 0

    def unneeded(packet: memoryview) -> bool:
        head = bytes(packet[:_LOOKED_AT])
        starts = _by_length(head, size) if size else by_start_code(head)
        return next((found for start in starts if (found := verdict(head[start])) is not None), False)

    return unneeded


def _h264(header: int) -> bool | None:
    """By the first byte of a NAL unit; None where it is not a slice."""
    return not header & 0x60 if 1 <= header & 0x1F <= 5 else None


def _hevc(header: int) -> bool | None:
    kind = header >> 1 & 0x3F
    return kind < 16 and not kind & 1 if kind < 32 else None


def _by_length(data: bytes, size: int) -> Iterator[int]:
    """Where NAL units begin that have their length before them, in ``size`` bytes."""
    at = size
    while at < len(data):
        yield at
        at += int.from_bytes(data[at - size : at], "big") + size


def by_start_code(data: bytes) -> Iterator[int]:
    """Where NAL units begin that have a start code before them."""
    at = data.find(b"\0\0\1") + 3
    while 3 <= at < len(data):
        yield at
        at = data.find(b"\0\0\1", at) + 3


class Unit(NamedTuple):
    """What a NAL unit is to the picture that it stands in or before.

    Attributes:
        slice: it carries a part of a picture.
        opens: after a slice, it can only belong to another picture.
        key: its picture can be decoded without those before it.
    """

    slice: bool
    opens: bool
    key: bool


@dataclass(frozen=True, slots=True)
class Grammar:
    """How NAL units of one codec are read.

    Attributes:
        header: bytes before the payload of a NAL unit.
        read: what the unit is that begins at this place of these bytes; as much of it as is there.
    """

    header: int
    read: Callable[[bytes, int], Unit]


def _read_h264(data: bytes, at: int) -> Unit:
    kind = data[at] & 0x1F
    if 1 <= kind <= 5:
        # first_mb_in_slice is 0, whose code is one bit; partitions B and C (3 and 4) begin with another number
        first = kind not in (3, 4) and len(data) > at + 1 and bool(data[at + 1] & 0x80)
        return Unit(True, first, kind == 5)
    return Unit(False, kind in (6, 7, 8, 9), kind == 6 and _is_recovery_point(data[at + 1 : at + 256]))


def _read_hevc(data: bytes, at: int) -> Unit:
    kind = data[at] >> 1 & 0x3F
    if kind < 32:
        first = len(data) > at + 2 and bool(data[at + 2] & 0x80)  # first_slice_segment_in_pic_flag
        return Unit(True, first, 16 <= kind <= 23)
    return Unit(False, kind in (32, 33, 34, 35, 39) or 41 <= kind <= 44 or 48 <= kind <= 55, False)


def _is_recovery_point(sei: bytes) -> bool:
    """Whether one of the messages says that decoding may begin here; streams without IDR pictures do that."""
    sei = sei.split(b"\0\0\1", 1)[0].replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 < len(sei):
        numbers = []
        for _ in range(2):  # type and size, each a row of 255 and a rest
            number = 0
            while at < len(sei) and sei[at] == 255:
                number += 255
                at += 1
            if at >= len(sei):
                return False
            numbers.append(number + sei[at])
            at += 1
        kind, size = numbers
        if kind == 6:
            return True
        at += size
    return False


GRAMMARS: Final = {"h264": Grammar(1, _read_h264), "hevc": Grammar(2, _read_hevc)}
"""By codec."""
