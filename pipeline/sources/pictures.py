# SPDX-License-Identifier: Apache-2.0
"""From decoded libav frames to :class:`pipeline.frame.Picture`: 8-bit planar YUV as views, the rest converted once."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, cast

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

from pipeline.frame import Matrix, Picture, Rotation, Uint8Array

Layout = Literal["yuv", "rgb", "gray"]

_INTERLEAVED: Final = frozenset({"nv12", "nv16", "nv24"})
"""Luma, and a plane in which U and V take turns: what hardware decoders give. Only the chroma has to be copied."""

_BT601: Final = frozenset({4, 5, 6})  # FCC, BT.470BG, SMPTE 170M (ITU-T H.273, matrix coefficients)
_BT709: Final = frozenset({1, 7, 9, 10})  # BT.709, SMPTE 240M, and BT.2020, which lies nearest to it
_FULL_RANGE: Final = 2  # AVCOL_RANGE_JPEG
_BY_SUBSAMPLING: Final = {
    (8, 8): "yuv420p",
    (8, 16): "yuv422p",
    (16, 16): "yuv444p",
    (16, 8): "yuv440p",
    (4, 16): "yuv411p",
}


class _Plan(NamedTuple):
    layout: Layout
    convert_to: str | None  # an 8-bit format, or None where the planes are good as they are
    full_range: bool  # by the format's name (the deprecated yuvj formats)


def _plan(fmt: VideoFormat) -> _Plan:
    name = fmt.name
    components = fmt.components
    full = name.startswith("yuvj")
    eight_bit = all(component.bits == 8 for component in components)
    if fmt.is_rgb or fmt.has_palette or fmt.is_bayer:
        return _Plan("rgb", None if name == "rgb24" else "rgb24", full)
    if len(components) < 3:
        return _Plan("gray", None if name == "gray" else "gray", full)
    separate = len({component.plane for component in components}) == len(components)
    if (eight_bit and separate) or name in _INTERLEAVED:
        return _Plan("yuv", None, full)
    target = _BY_SUBSAMPLING.get((fmt.chroma_width(16), fmt.chroma_height(16)), "yuv444p")
    return _Plan("yuv", target, full)


def _view(plane: VideoPlane, channels: int = 1) -> Uint8Array:
    """The pixels of a plane without its row padding. The array keeps the plane, and so the frame, alive."""
    rows, columns, stride = plane.height, plane.width, plane.line_size
    # Bottom-up pictures have a negative stride; the buffer then begins at the last row.
    first = 0 if stride >= 0 else (rows - 1) * -stride
    if channels == 1:
        return np.ndarray((rows, columns), np.uint8, memoryview(plane), first, (stride, 1))
    return np.ndarray((rows, columns, channels), np.uint8, memoryview(plane), first, (stride, channels, 1))


class PictureMaker:
    """Makes pictures of the frames of one stream. Owns the one swscale context of that stream."""

    def __init__(self) -> None:
        self._plans: dict[str, _Plan] = {}
        self._reformatter: VideoReformatter | None = None

    def make(self, frame: VideoFrame) -> Picture:
        """The picture of a frame. Converts only what is not 8-bit planar; matrix and range stay as they were coded.

        A stream that names no matrix is taken as BT.709 from 720 rows up, else as BT.601.
        """
        fmt = frame.format
        name = fmt.name
        plan = self._plans.get(name)
        if plan is None:
            plan = self._plans[name] = _plan(fmt)
        colorspace = frame.colorspace
        if colorspace in _BT709:
            matrix: Matrix = "bt709"
        elif colorspace in _BT601:
            matrix = "bt601"
        else:
            matrix = "bt709" if frame.height >= 720 else "bt601"
        full_range = plan.full_range or frame.color_range == _FULL_RANGE
        turned = frame.rotation  # degrees, counter-clockwise
        rotation: Rotation = 0
        if turned:
            rotation = (-round(turned / 90) * 90) % 360  # type: ignore[assignment]
        if plan.convert_to is not None:
            if self._reformatter is None:
                self._reformatter = VideoReformatter()
            frame = self._reformatter.reformat(frame, format=plan.convert_to, threads=1)
        planes = frame.planes
        if name in _INTERLEAVED:
            chroma = _view(planes[1], 2)
            import cv2  # 220 MB of address space, which the process of an isolated feed does not have to spare

            u, v = (cast("Uint8Array", cv2.extractChannel(chroma, number)) for number in range(2))
            return Picture((_view(planes[0]), u, v), "yuv", matrix, full_range, rotation)
        if plan.layout == "yuv":
            return Picture((_view(planes[0]), _view(planes[1]), _view(planes[2])), "yuv", matrix, full_range, rotation)
        if plan.layout == "gray":
            return Picture((_view(planes[0]),), "gray", matrix, full_range, rotation)
        return Picture((_view(planes[0], 3),), "rgb", matrix, True, rotation)
