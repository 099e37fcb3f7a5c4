# SPDX-License-Identifier: Apache-2.0
"""A camera whose frames carry their number and the time at which they are sent in their pixels (:mod:`tests.stamps`).

Each frame is painted and encoded ahead, with the time at which it will be due: what is in its pixels is when it leaves
the camera, as if encoding took no time. A thread of its own does that, so that no other camera is late meanwhile.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from tests.faults.camera.camera import Camera, OnSent
from tests.faults.camera.clip import Clip, Unit, make_unit, nal_type, split
from tests.stamps import Stamp, paint

_CODEC = "h264"


class StampedCamera(Camera):
    """See above.

    Args:
        name, on_sent: see :class:`Camera`.
        size: width and height of its picture.
        fps: frames a second; there is a key frame each second.
    """

    def __init__(
        self, name: str, *, size: tuple[int, int] = (640, 360), fps: float = 15, on_sent: OnSent | None = None
    ) -> None:
        self._encoder = _encoder(size, fps)
        self._frame = VideoFrame.from_ndarray(_texture(*size), format="yuv420p")
        self._painted = 0
        self._maker = ThreadPoolExecutor(1, f"make:{name}")
        first = self._make(0, 0)  # it is not sent, but says how the stream is coded
        parameters = tuple(nal for nal in first.nals if nal_type(_CODEC, nal) in (7, 8))
        super().__init__(name, Clip(_CODEC, *size, fps, (first,), parameters), on_sent=on_sent)
        self._ready = self._maker.submit(lambda: first)

    def start(self, phase: float) -> None:
        """See :class:`Camera`."""
        super().start(phase)
        self._get_ready()

    def stop(self) -> None:
        """See :class:`Camera`."""
        super().stop()
        self._maker.shutdown()

    def _tick(self) -> None:
        super()._tick()
        self._get_ready()

    def _next(self) -> Unit:
        return self._ready.result()

    def _get_ready(self) -> None:
        self._ready = self._maker.submit(self._make, self._number, round(self._due_s * 1e9))

    def _make(self, number: int, due_ns: int) -> Unit:
        """A frame that will be due at a time of the monotonic clock."""
        luma = self._frame.planes[0]
        rows = np.frombuffer(luma, np.uint8).reshape(luma.height, luma.line_size)
        paint(rows, Stamp(number, due_ns))
        self._frame.pts = self._painted
        self._painted += 1
        (packet,) = self._encoder.encode(self._frame)
        return make_unit(_CODEC, split(bytes(packet)), key=packet.is_keyframe)


def _texture(width: int, height: int) -> npt.NDArray[np.uint8]:
    """Something to see, so that key frames are of several packets, as those of cameras are."""
    coarse = np.random.default_rng(1).integers(60, 180, (height // 8, width // 8), np.uint8)
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = coarse.repeat(8, axis=0).repeat(8, axis=1)
    return planes


def _encoder(size: tuple[int, int], fps: float) -> VideoCodecContext:
    encoder = CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = *size, "yuv420p"
    encoder.time_base = 1 / Fraction(fps).limit_denominator(1000)
    params = f"keyint={max(1, round(fps))}:scenecut=0:bframes=0:slices=1:repeat-headers=1:annexb=1"
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23", "x264-params": params}
    encoder.thread_count = 1
    return encoder
