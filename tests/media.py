# SPDX-License-Identifier: Apache-2.0
"""Tiny clips with known content, encoded when a test asks for them and kept for the rest of the run."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from pipeline.frame import Capture, StreamInfo
from pipeline.protocols import Source
from pipeline.threads import StopFlag

H264 = {"preset": "ultrafast", "qp": "8", "tune": "zerolatency"}
B_FRAMES = {"preset": "veryfast", "qp": "8", "bf": "3", "b_adapt": "0", "x264-params": "keyint=12:scenecut=0:threads=1"}
LOSSLESS = {"preset": "ultrafast", "qp": "0"}
SPC = {"bt709": 1, "bt601": 5, None: 2}  # AVColorSpace


def level_of(index: int) -> int:
    """Luma of the ``index``-th frame of a counting clip; neighbours differ by far more than the codec's error."""
    return 30 + (index * 23) % 191


def counting(index: int, width: int, height: int, pix_fmt: str = "yuv420p") -> VideoFrame:
    """A flat 8-bit YUV picture whose luma tells its index."""
    frame = VideoFrame(width, height, pix_fmt)
    for number, plane in enumerate(frame.planes):
        plane.update(bytes([level_of(index) if number == 0 else 128]) * plane.buffer_size)
    return frame


def textured(index: int, width: int, height: int) -> VideoFrame:
    """A moving, noisy 4:2:0 picture: bytes to damage, motion to follow."""
    noise = np.random.default_rng(index).integers(-12, 13, (height, width))
    rows, columns = np.mgrid[:height, :width]
    luma = (128 + 80 * np.sin((columns + 3 * index) / 9) * np.cos((rows - 2 * index) / 7) + noise).astype(np.uint8)
    chroma = np.full((-(-height // 2), -(-width // 2)), 128, np.uint8)
    return filled([luma, chroma, chroma], width, height, "yuv420p")


def filled(planes: Sequence[np.ndarray[Any, Any]], width: int, height: int, pix_fmt: str) -> VideoFrame:
    """A frame with exactly these planes, 8 or 16 bits a sample."""
    frame = VideoFrame(width, height, pix_fmt)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        raw = np.ascontiguousarray(values).view(np.uint8).reshape(plane.height, -1)
        rows[:, : raw.shape[1]] = raw
        plane.update(rows.tobytes())
    return frame


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """SVT-AV1 gives the thread that calls it the highest real-time priority where root may do that, and leaves it so:
    the tests after it, and the processes that they start, would never let others have the core."""
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, param)


def encode(
    path: Path,
    frames: Iterable[VideoFrame],
    *,
    codec: str = "libx264",
    container: str | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    rate: int | Fraction = 25,
    options: dict[str, str] | None = None,
    matrix: str | None = None,
    full_range: bool | None = None,
    rotation: int = 0,
    muxing: dict[str, str] | None = None,
    audio: float = 0.0,
) -> Path:
    """Encode and mux; ``pts`` in units of ``time_base``, else the frame number; ``audio`` seconds of silence beside."""
    with usual_scheduling(), av.open(str(path), "w", format=container, options=muxing or {}) as file:
        stream: Any = None
        sound: Any = file.add_stream("aac", rate=48000) if audio else None
        for number, frame in enumerate(frames):
            if stream is None:
                stream = file.add_stream(codec, rate=rate)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                stream.options = dict(H264 if options is None and codec == "libx264" else options or {})
                stream.codec_context.time_base = time_base
                stream.codec_context.thread_count = 1
                stream.codec_context.colorspace = SPC[matrix]
                if full_range is not None:
                    stream.codec_context.color_range = 2 if full_range else 1
                if rotation:
                    stream.set_display_rotation(rotation)  # counter-clockwise
            frame.pts = number if pts is None else pts[number]
            frame.time_base = time_base
            frame.colorspace = SPC[matrix]
            if full_range is not None:
                frame.color_range = 2 if full_range else 1
            file.mux(stream.encode(frame))
        if sound is not None:
            for start in range(0, int(audio * 48000), 1024):
                block = av.AudioFrame("fltp", "stereo", 1024)
                for plane in block.planes:
                    plane.update(bytes(plane.buffer_size))
                block.sample_rate, block.pts = 48000, start
                file.mux(sound.encode(block))
            file.mux(sound.encode(None))
        if stream is not None:
            file.mux(stream.encode(None))
    return path


class Media:
    """Makes each clip once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, Path] = {}

    def clip(
        self,
        suffix: str = "mp4",
        *,
        count: int = 25,
        size: tuple[int, int] = (64, 48),
        pix_fmt: str = "yuv420p",
        texture: bool = False,
        **encoding: Any,
    ) -> Path:
        """A counting clip (:func:`level_of`), or one with texture (:func:`textured`)."""
        key = f"{suffix} {count} {size} {pix_fmt} {texture} {sorted(encoding.items())}"
        if key not in self._made:
            path = self.folder / f"clip{len(self._made)}.{suffix}"
            draw = (lambda n: textured(n, *size)) if texture else (lambda n: counting(n, *size, pix_fmt))
            self._made[key] = encode(path, (draw(n) for n in range(count)), **encoding)
        return self._made[key]

    def file(self, name: str, content: bytes) -> Path:
        """A file with these bytes."""
        path = self.folder / name
        path.write_bytes(content)
        return path


@functools.cache
def _media(folder: Path) -> Media:
    folder.mkdir()
    return Media(folder)


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    """The clips of this run; one instance, however many modules import this fixture."""
    return _media(tmp_path_factory.getbasetemp() / "media")


def luma(capture: Capture) -> int:
    """Luma in the middle of the picture."""
    plane = capture.picture.planes[0]
    return int(plane[plane.shape[0] // 2, plane.shape[1] // 2])


def indices(captures: Sequence[Capture]) -> list[int]:
    """Which frames of a counting clip these are, by their pictures, near their place in the sequence."""
    found = []
    for place, capture in enumerate(captures):
        alike = [index for index in range(191) if abs(level_of(index) - luma(capture)) <= 3]
        assert alike, "not a picture of a counting clip"
        found.append(min(alike, key=lambda index: abs(index - place)))
    return found


def play(source: Source, *, limit: int | None = None, stop: StopFlag | None = None) -> tuple[StreamInfo, list[Capture]]:
    """Open, read to the end (or ``limit`` frames) and close."""
    captures: list[Capture] = []
    try:
        info = source.open(stop or StopFlag())
        while limit is None or len(captures) < limit:
            capture = source.read()
            if capture is None:
                break
            captures.append(capture)
    finally:
        source.close()
    return info, captures
