# SPDX-License-Identifier: Apache-2.0
"""What a camera shows: the access units of a clip, read once and never decoded."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

from tests.faults.camera import rtp

_ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
_PARAMETERS = {"h264": {7, 8}, "hevc": {32, 33, 34}}


@dataclass(frozen=True, eq=False)
class Unit:
    """One access unit.

    Attributes:
        nals: its NAL units without start codes; a key frame's have the parameter sets first.
        key: decoding can begin here.
        delay: frames by which it is shown later than it is sent; not 0 in clips with B-frames only.
        payloads: the same as RTP payloads, in order.
    """

    nals: tuple[bytes, ...]
    key: bool
    delay: int
    payloads: tuple[bytes, ...]


@dataclass(frozen=True, eq=False)
class Clip:
    """Access units that are sent in a loop. The first one is a key frame."""

    codec: str
    width: int
    height: int
    fps: float
    units: tuple[Unit, ...]
    parameters: tuple[bytes, ...]


def nal_type(codec: str, nal: bytes) -> int:
    """Its nal_unit_type: ISO 14496-10 7.3.1 and ISO 23008-2 7.3.1.2."""
    return nal[0] & 0x1F if codec == "h264" else (nal[0] >> 1) & 0x3F


def make_unit(codec: str, nals: tuple[bytes, ...], *, key: bool, delay: int = 0) -> Unit:
    """An access unit cut into payloads."""
    return Unit(nals, key, delay, tuple(part for nal in nals for part in rtp.payloads(codec, nal)))


@functools.cache
def read_clip(path: Path) -> Clip:
    """The video of a file of any container, H.264 or HEVC, whose first frame is a key frame."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        codec = context.codec.canonical_name
        annex_b = BitStreamFilterContext(_ANNEX_B[codec], stream)
        packets = [packet for read in container.demux(stream) if read.size for packet in annex_b.filter(read)]
        rate = float(stream.average_rate or stream.guessed_rate or 15)
        width, height = context.width, context.height
    shown = {pts: rank for rank, pts in enumerate(sorted(packet.pts for packet in packets))}
    ranks = [shown[packet.pts] for packet in packets]
    latest = max(index - rank for index, rank in enumerate(ranks))
    units: list[Unit] = []
    parameters: dict[bytes, None] = {}
    for index, packet in enumerate(packets):
        nals = split(bytes(packet))
        found = [nal for nal in nals if nal_type(codec, nal) in _PARAMETERS[codec]]
        parameters.update(dict.fromkeys(found))
        if packet.is_keyframe and not found:
            nals = (*parameters, *nals)
        units.append(make_unit(codec, nals, key=packet.is_keyframe, delay=ranks[index] - index + latest))
    assert units[0].key, f"{path} does not begin with a key frame"
    return Clip(codec, width, height, rate, tuple(units), tuple(parameters))


def split(data: bytes) -> tuple[bytes, ...]:
    """NAL units of a byte stream; ISO 14496-10, annex B."""
    return tuple(nal.rstrip(b"\0") for nal in data.split(b"\0\0\1") if nal.rstrip(b"\0"))
