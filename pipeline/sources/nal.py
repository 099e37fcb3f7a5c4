# SPDX-License-Identifier: Apache-2.0
"""Which packets of H.264 and H.265 hold a frame that no other frame needs: told by the first bytes of each NAL unit.

ITU-T H.264, 7.3.1 and 7.4.1 (``nal_ref_idc``); ITU-T H.265, 7.3.1.2 and table 7-1 (``nal_unit_type``). libav's decoders
go by the same bits when they are told to leave such frames out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

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
        starts = _by_length(head, size) if size else _by_start_code(head)
        return next((found for start in starts if (found := verdict(head[start])) is not None), False)

    return unneeded


def _h264(header: int) -> bool | None:
    """By the first byte of a NAL unit; None where it is no slice."""
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


def _by_start_code(data: bytes) -> Iterator[int]:
    at = data.find(b"\0\0\1") + 3
    while 3 <= at < len(data):
        yield at
        at = data.find(b"\0\0\1", at) + 3
