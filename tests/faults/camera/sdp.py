# SPDX-License-Identifier: Apache-2.0
"""What a camera says of its stream when it is asked to describe it (RFC 4566; RFC 6184 8.2.1, RFC 7798 7.1)."""

from __future__ import annotations

from base64 import b64encode

from tests.faults.camera.clip import Clip, nal_type
from tests.faults.camera.rtp import CLOCK, PAYLOAD_TYPE

_HEVC_NAMES = {32: "sprop-vps", 33: "sprop-sps", 34: "sprop-pps"}


def describe(clip: Clip) -> str:
    """The session description; its only track is ``track1``."""
    if clip.codec == "h264":
        profile = next(nal[1:4].hex() for nal in clip.parameters if nal_type("h264", nal) == 7)
        sets = ",".join(b64encode(nal).decode() for nal in clip.parameters)
        name, format_ = "H264", f"packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={sets}"
    else:
        parts = (f"{_HEVC_NAMES[nal_type('hevc', nal)]}={b64encode(nal).decode()}" for nal in clip.parameters)
        name, format_ = "H265", ";".join(parts)
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=camera",
        "c=IN IP4 0.0.0.0",
        "t=0 0",
        f"m=video 0 RTP/AVP {PAYLOAD_TYPE}",
        f"a=rtpmap:{PAYLOAD_TYPE} {name}/{CLOCK}",
        f"a=fmtp:{PAYLOAD_TYPE} {format_}",
        "a=control:track1",
    ]
    return "".join(f"{line}\r\n" for line in lines)
