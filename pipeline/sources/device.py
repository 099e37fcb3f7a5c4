# SPDX-License-Identifier: Apache-2.0
"""A camera on this machine, through Video4Linux2 (opt-in: ``v4l2:`` or a path such as ``/dev/video0``)."""

from __future__ import annotations

import os
import re

from pipeline.errors import SourceUnavailable
from pipeline.frame import StreamInfo
from pipeline.sources.libav import open_video
from pipeline.sources.live import LiveSource
from pipeline.sources.opening import DEVICE_CODECS, MAX_PIXELS, Limits, device_target
from pipeline.sources.reader import StreamReader, info_of
from pipeline.threads import StopFlag


class DeviceSource(LiveSource):
    """Frames of a local camera.

    The driver's blocking read has no time limit in libav: a device that stops delivering without an error holds its
    thread, so such a thread is to be watched from outside.

    Args:
        device: ``/dev/video0``, ``v4l2:/dev/video0`` or ``v4l2:///dev/video0``.
        size, fps, pixels: what the device is asked for: (width, height), frames per second and input format
            (``mjpeg``, ``yuyv422``); None leaves it to the driver.
        max_pixels, codecs: see :class:`pipeline.sources.opening.Limits`.
    """

    def __init__(
        self,
        device: str,
        *,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        pixels: str | None = None,
        max_pixels: int = MAX_PIXELS,
        codecs: frozenset[str] = DEVICE_CODECS,
    ) -> None:
        super().__init__()
        self._path = re.sub(r"^v4l2:(//)?", "", device)
        self._request = (size, fps, pixels)
        self._limits = Limits(max_pixels, codecs)

    def open(self, stop: StopFlag) -> StreamInfo:
        """Open the device; raises SourceUnavailable where there is none."""
        self._stop = stop
        if not os.path.exists(self._path):
            raise SourceUnavailable(f"{self._path}: no such device", cause="not_found")
        size, fps, pixels = self._request
        target = device_target(self._path, size=size, fps=fps, pixels=pixels)
        opened = open_video(target, self._limits)
        self._reader = StreamReader(opened, target, self.counters, watcher=self._watcher, max_bad_packets=100)
        return info_of(opened, live=True)
