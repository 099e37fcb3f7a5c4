# SPDX-License-Identifier: Apache-2.0
"""Pictures that carry their number and the time of their making in their pixels, and who reads that back.

A stamp is a grid of black and white squares in the upper left of the luma plane: 32 bits of number, 64 of monotonic
nanoseconds, 16 of a checksum of both. Squares of 16 pixels outlive H.264 and any YUV; what does not is refused.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.frame import Capture, Picture, Result, SourceCounters, StreamInfo
from pipeline.threads import StopFlag
from pipeline.timing import elapsed, now_ns, wall_ns

Plane = npt.NDArray[np.uint8]

SQUARE: Final = 16
COLUMNS: Final = 16
_BLACK, _WHITE, _GREY = 16, 235, 110
_FORMAT: Final = struct.Struct(">IQ")
_ROWS: Final = 8 * (_FORMAT.size + 2) // COLUMNS
SMALLEST: Final = (COLUMNS * SQUARE, _ROWS * SQUARE)
"""Width and height of a stamp."""


class Stamp(NamedTuple):
    """What is in the pixels of a frame."""

    number: int
    made_ns: int


def paint(luma: Plane, stamp: Stamp) -> None:
    """Write a stamp into a luma plane of at least :data:`SMALLEST`."""
    told = _FORMAT.pack(*stamp)
    bits = np.unpackbits(np.frombuffer(told + _checksum(told), np.uint8)).reshape(_ROWS, COLUMNS)
    squares = np.where(bits, _WHITE, _BLACK).astype(np.uint8)
    luma[: _ROWS * SQUARE, : COLUMNS * SQUARE] = squares.repeat(SQUARE, axis=0).repeat(SQUARE, axis=1)


def read(luma: Plane) -> Stamp:
    """The stamp of a luma plane; raises ValueError where there is none, or a damaged one."""
    grid = luma[: _ROWS * SQUARE, : COLUMNS * SQUARE].reshape(_ROWS, SQUARE, COLUMNS, SQUARE)
    middles = grid[:, SQUARE // 4 : -SQUARE // 4, :, SQUARE // 4 : -SQUARE // 4].mean(axis=(1, 3))
    whole = np.packbits(middles > (_BLACK + _WHITE) / 2).tobytes()
    told = whole[: _FORMAT.size]
    if whole[_FORMAT.size :] != _checksum(told):
        raise ValueError("the pixels carry no stamp")
    return Stamp(*_FORMAT.unpack(told))


def _checksum(told: bytes) -> bytes:
    return binascii.crc_hqx(told, 0xFFFF).to_bytes(2, "big")


class StampedSource:
    """A camera of this process: a frame is made, and stamped, at each due time.

    Args:
        fps: frames a second; 0: as fast as they are read.
        frames: how many.
        phase: of an interval, by which the first one is later than the opening.
    """

    truncation = None

    def __init__(self, fps: float, frames: int, *, size: tuple[int, int] = (640, 360), phase: float = 0.0) -> None:
        self.counters = SourceCounters()
        self._fps, self._frames, self._size, self._phase = fps, frames, size, phase
        self._stop = StopFlag()
        self._index = 0
        self._first_ns = 0

    def open(self, stop: StopFlag) -> StreamInfo:
        """The first frame is due from now on."""
        self._stop = stop
        self._first_ns = now_ns() + (round(self._phase / self._fps * 1e9) if self._fps else 0)
        return StreamInfo("", *self._size, self._fps or None, live=bool(self._fps))

    def read(self) -> Capture | None:
        """The next frame, when it is due."""
        if self._index == self._frames:
            return None
        pts_s = self._index / self._fps if self._fps else self._index / 30
        while self._fps and (left_ns := self._first_ns + round(pts_s * 1e9) - now_ns()) > 0:
            if self._stop.wait(left_ns / 1e9):
                return None
        if self._stop.is_set():
            return None
        made_ns = now_ns()
        read_ns = now_ns()
        width, height = self._size
        planes = tuple(np.full((height // part, width // part), grey, np.uint8)
                       for part, grey in ((1, _GREY), (2, 128), (2, 128)))  # fmt: skip
        paint(planes[0], Stamp(self._index, made_ns))
        capture = Capture(Picture(planes, "yuv"), self._index, pts_s, read_ns, now_ns(), wall_ns())
        self._index += 1
        return capture

    def close(self) -> None:
        """Nothing to release."""


@dataclass(frozen=True)
class Seen:
    """A frame that came out.

    Attributes:
        frame: the number that the pipeline gave it.
        stamp: what its pixels say.
        seen_ns: the observer's clock when it had read that.
        trace: the tracker's marks; the last one is set after the sink returned.
    """

    stream: str
    frame: int
    stamp: Stamp
    seen_ns: int
    trace: list[int]

    @property
    def age_ns(self) -> int:
        """From its making to the end of the sink, by pixels and the observer's clock."""
        return self.seen_ns - self.stamp.made_ns

    @property
    def told_ns(self) -> int:
        """The same by the tracker, from the time at which its packet was read; once it is done."""
        return elapsed(self.trace)


class Observer:
    """Reads stamps back. Its :meth:`see` is the function of a :class:`pipeline.sinks.CallbackSink` with pictures."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    def see(self, result: Result) -> None:
        """A result with its picture; raises ValueError where its pixels carry no stamp."""
        assert result.picture is not None
        stamp = read(result.picture.planes[0])
        self.seen.append(Seen(result.stream, result.frame, stamp, now_ns(), result.trace))

    def mistaken(self) -> list[str]:
        """Frames that are not the ones that they are said to be.

        Numbers of a camera and of the pipeline differ by the frames before the first that was decoded: always as many.
        """
        offsets: dict[str, int] = {}
        wrong = []
        for one in self.seen:
            offset = one.stamp.number - one.frame
            if offsets.setdefault(one.stream, offset) != offset:
                wrong.append(f"{one.stream}: frame {one.frame} shows frame {one.stamp.number}")
        return wrong
