# SPDX-License-Identifier: Apache-2.0
"""Decoding in hardware where it is asked for and available; in all other cases the CPU decodes, and that is said."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Final

import av
from av.codec import Codec
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.codeccontext import VideoCodecContext

from pipeline.sources.cuda_context import enter_context
from pipeline.timing import now_ns

_log = logging.getLogger(__name__)

NONE: Final = "none"
AUTO: Final = "auto"
KINDS: Final = ("cuda", "vaapi", "vdpau", "qsv", "drm", "vulkan", "videotoolbox")
"""Kinds of devices by libav's names. Which of them there are depends on the build of PyAV; its wheels know ``cuda``."""
CPU: Final = "cpu"

AGAIN_NS: Final = 60_000_000_000
"""After this time a device that was not available is tried again; not for every camera that connects."""

_PROBED_WITH: Final = "h264"  # what nearly every camera sends


@dataclass(slots=True)
class _Tried:
    at_ns: int
    reason: str  # why not; empty where it works
    doubted: bool = False  # opening something with it failed: it is to be tried again


class Hardware:
    """The decoding devices of this machine. What was tried is remembered for all streams."""

    def __init__(self) -> None:
        self._tried: dict[str, _Tried] = {}
        self._lock = threading.Lock()

    def accelerator(self, wanted: str) -> HWAccel | None:
        """What ``av.open`` is to be given; None: the CPU decodes.

        Decoded pictures come back to system memory. What the device cannot decode the CPU does.

        Args:
            wanted: ``none``, ``auto``, one of :data:`KINDS`, or such a kind with a device: ``cuda:1``,
                ``vaapi:/dev/dri/renderD129``.
        """
        if wanted == NONE:
            return None
        for word in KINDS if wanted == AUTO else (wanted,):
            if not self._why_not(word, said=wanted != AUTO):
                return _accelerator(word)
        return None

    def lost(self, wanted: str) -> bool:
        """Whether a device that was given out has become unavailable; asked where opening with it failed."""
        with self._lock:
            for tried in self._tried.values():
                tried.doubted = True
        return self.accelerator(wanted) is None

    def _why_not(self, word: str, *, said: bool) -> str:
        with self._lock:  # the first of many cameras tries, the others wait for its answer
            known = self._tried.get(word)
            if known is not None and not known.doubted and (not known.reason or now_ns() - known.at_ns < AGAIN_NS):
                return known.reason
            reason = _tried(word)
            self._tried[word] = _Tried(now_ns(), reason)
        if reason and said and (known is None or known.reason != reason):
            _log.warning("hwaccel: %s is not available here (%s); the CPU decodes", word, reason)
        elif not reason and (known is None or known.reason):
            _log.info("hwaccel: %s decodes what it can", word)
        return reason


def running_on(context: VideoCodecContext) -> str:
    """What decodes, once a frame has come: ``cpu``, or the kind of the device."""
    if not context.is_hwaccel:
        return CPU
    chosen = context.pix_fmt  # where the device gave up, libav has chosen a format in memory
    for config in context.codec.hardware_configs:
        if config.format is not None and config.format.name == chosen:
            return config.device_type.name
    return CPU


def _accelerator(word: str) -> HWAccel:
    """For a stream that the calling thread opens next."""
    kind, _, device = word.partition(":")
    shared = kind == "cuda" and enter_context(int(device or 0))
    return HWAccel(kind, device or None, options={"current_ctx": "1"} if shared else None)


def _tried(word: str) -> str:
    """Why no device of this kind can be made; empty where one can."""
    kind = word.partition(":")[0]
    if kind not in hwdevices_available():
        return "this build of PyAV does not know it"
    try:
        _accelerator(word).create(Codec(_PROBED_WITH, "r"))
    except (av.FFmpegError, NotImplementedError, ValueError) as exc:
        return " ".join(str(getattr(exc, "strerror", None) or exc).split()).lower() or type(exc).__name__
    return ""


HARDWARE: Final = Hardware()
"""Of this process."""
