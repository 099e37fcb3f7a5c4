# SPDX-License-Identifier: Apache-2.0
"""A camera that can be made to fail: RTSP on loopback, H.264 and HEVC, over TCP and UDP, without root.

Frames are access units of a clip, copied: a camera costs no more than its packets. ``python -m tests.faults.camera``
runs some in a process of their own.
"""

from tests.faults.camera.access import Access
from tests.faults.camera.camera import Camera, OnSent
from tests.faults.camera.clip import Clip, read_clip
from tests.faults.camera.faults import (
    Answers,
    Babbles,
    Corrupts,
    Fault,
    Freezes,
    HangsUp,
    Healthy,
    Jumps,
    Loses,
    Resets,
    SaysGoodbye,
    Shows,
    Stalls,
    TellsNoTime,
    Trickles,
)
from tests.faults.camera.rtsp import HOST, RtspServer
from tests.faults.camera.thread import Cameras, serving

__all__ = [
    "HOST", "Access", "Answers", "Babbles", "Camera", "Cameras", "Clip", "Corrupts", "Fault", "Freezes", "HangsUp",
    "Healthy", "Jumps", "Loses", "OnSent", "Resets", "RtspServer", "SaysGoodbye", "Shows", "Stalls", "TellsNoTime",
    "Trickles", "read_clip", "serving",
]  # fmt: skip
