# SPDX-License-Identifier: Apache-2.0
"""A test pattern: colour bars, a moving block and a frame counter. Needs no file and no camera; the same every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

import numpy as np

from pipeline.errors import UsageError
from pipeline.frame import Capture, Picture, SourceCounters, StreamInfo, Uint8Array
from pipeline.threads import StopFlag
from pipeline.timing import now_ns, wall_ns

# 75 % colour bars (white, yellow, cyan, green, magenta, red, blue, black) as BT.601 limited-range Y, Cb, Cr.
BARS: Final = (
    (180, 128, 128),
    (162, 44, 142),
    (131, 156, 44),
    (112, 72, 58),
    (84, 184, 198),
    (65, 100, 212),
    (35, 212, 114),
    (16, 128, 128),
)
_COUNTER_BITS: Final = 16
_CLOTHES: Final = ((90, 170, 110), (120, 90, 190), (60, 120, 140), (150, 110, 80))


@dataclass(frozen=True, slots=True)
class PatternSpec:
    """What a pattern shows.

    Attributes:
        width, height: pixels, even, from 64x48 to 8K.
        fps: frames per second of the time stamps.
        frames: how many, or None for a pattern without an end.
        people: simple upright figures that walk through the picture.
    """

    width: int = 640
    height: int = 360
    fps: float = 30.0
    frames: int | None = None
    people: int = 0

    @classmethod
    def parse(cls, url: str) -> PatternSpec:
        """From ``pattern:?size=640x360&fps=30&frames=100&people=0``; raises UsageError."""
        body = url.removeprefix("pattern:").lstrip("/")
        values: dict[str, int | float] = {}
        for key, text in parse_qsl(body.removeprefix("?"), keep_blank_values=True):
            try:
                if key == "size":
                    width, height = (int(part) for part in text.lower().split("x"))
                    values |= {"width": width, "height": height}
                elif key == "fps":
                    values["fps"] = float(text)
                elif key in ("frames", "people"):
                    values[key] = int(text)
                else:
                    raise UsageError(f"{url}: unknown setting {key}; expected size, fps, frames or people")
            except ValueError as exc:
                raise UsageError(
                    f"{url}: {key}={text} is not valid; expected for instance size=640x360&fps=30"
                ) from exc
        spec = cls(**values)  # type: ignore[arg-type]
        spec._check(url)
        return spec

    def _check(self, url: str) -> None:
        if not (64 <= self.width <= 7680 and 48 <= self.height <= 4320) or self.width % 2 or self.height % 2:
            raise UsageError(f"{url}: size {self.width}x{self.height}; expected even numbers from 64x48 to 7680x4320")
        if not 0 < self.fps <= 1000:
            raise UsageError(f"{url}: fps {self.fps:g}; expected a number above 0 and up to 1000")
        if (self.frames is not None and self.frames < 1) or not 0 <= self.people <= 100:
            raise UsageError(f"{url}: frames must be at least 1 and people 0 to 100")


class PatternSource:
    """Delivers a pattern as fast as it is read (:class:`pipeline.sources.paced.Paced` gives it its pace).

    The counter is a row of squares along the bottom: the index's lowest 16 bits, highest first, white for 1.
    """

    def __init__(self, pattern: PatternSpec | str) -> None:
        self.counters = SourceCounters()
        self._spec = PatternSpec.parse(pattern) if isinstance(pattern, str) else pattern
        self._index = 0
        self._stop = StopFlag()
        self._background: tuple[Uint8Array, ...] = ()

    def open(self, stop: StopFlag) -> StreamInfo:
        """Draw the background."""
        self._stop = stop
        spec = self._spec
        bar = np.arange(spec.width) * len(BARS) // spec.width
        luma = np.array([colour[0] for colour in BARS], np.uint8)[bar]
        chroma = [np.array([colour[plane] for colour in BARS], np.uint8)[bar[::2]] for plane in (1, 2)]
        half = spec.height // 2
        self._background = (
            np.tile(luma, (spec.height, 1)),
            np.tile(chroma[0], (half, 1)),
            np.tile(chroma[1], (half, 1)),
        )
        return StreamInfo(
            "",
            spec.width,
            spec.height,
            spec.fps,
            spec.frames,
            spec.frames / spec.fps if spec.frames else None,
            live=spec.frames is None,
            codec="pattern",
        )

    def read(self) -> Capture | None:
        """The next frame, drawn into buffers of its own."""
        spec, index = self._spec, self._index
        if self._stop.is_set() or not self._background or (spec.frames is not None and index >= spec.frames):
            return None
        read_ns = now_ns()
        planes = tuple(plane.copy() for plane in self._background)
        self._draw(planes, index)
        self._index = index + 1
        wall = wall_ns() if spec.frames is None else None
        return Capture(Picture(planes, "yuv"), index, index / spec.fps, read_ns, now_ns(), wall)

    @property
    def truncation(self) -> str | None:
        """None: a pattern is never cut short."""
        return None

    def close(self) -> None:
        """Forget the background; may be called twice."""
        self._background = ()

    def _draw(self, planes: tuple[Uint8Array, ...], index: int) -> None:
        spec = self._spec
        side = max(8, spec.height // 8 & ~1)
        along = self._bounce(round(index * spec.width / (4 * spec.fps)), spec.width - side)
        down = self._bounce(round(index * spec.height / (3 * spec.fps)), spec.height - 2 * side)
        _fill(planes, along, down, side, side, (235, 128, 128))
        for person in range(spec.people):
            self._draw_person(planes, index, person)
        square = max(2, min(spec.height // 12, spec.width // _COUNTER_BITS) & ~1)
        for bit in range(_COUNTER_BITS):
            level = 235 if index >> (_COUNTER_BITS - 1 - bit) & 1 else 16
            _fill(planes, bit * square, spec.height - square, square, square, (level, 128, 128))

    def _draw_person(self, planes: tuple[Uint8Array, ...], index: int, person: int) -> None:
        """A head, a coat and two legs: a figure to look at, not something that a detector must find."""
        spec = self._spec
        tall = max(16, spec.height * (40 + 7 * (person % 4)) // 100)
        wide = max(6, tall // 3)
        start = (person * 2654435761) % max(1, spec.width - wide)
        left = self._bounce(start + round(index * spec.width * (1 + person % 3) / (12 * spec.fps)), spec.width - wide)
        top = max(0, spec.height - tall - spec.height // 12 - (person * 37) % max(1, spec.height // 4))
        _fill(planes, left + wide // 3, top, wide // 3, tall // 6, (170, 110, 150))
        _fill(planes, left, top + tall // 6, wide, tall * 5 // 12, _CLOTHES[person % len(_CLOTHES)])
        legs_top = top + tall * 7 // 12
        for leg in (left + wide // 8, left + wide * 5 // 8):
            _fill(planes, leg, legs_top, wide // 4, tall * 5 // 12, (40, 130, 125))

    @staticmethod
    def _bounce(position: int, room: int) -> int:
        """``position`` reflected between 0 and ``room``, even."""
        if room <= 0:
            return 0
        folded = position % (2 * room)
        return (folded if folded <= room else 2 * room - folded) & ~1


def _fill(
    planes: tuple[Uint8Array, ...], left: int, top: int, width: int, height: int, colour: tuple[int, int, int]
) -> None:
    left, top, width, height = left & ~1, top & ~1, max(2, width & ~1), max(2, height & ~1)
    planes[0][top : top + height, left : left + width] = colour[0]
    for plane in (1, 2):
        planes[plane][top // 2 : (top + height) // 2, left // 2 : (left + width) // 2] = colour[plane]
