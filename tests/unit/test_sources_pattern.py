# SPDX-License-Identifier: Apache-2.0
"""The test pattern: the same every time, with a counter that can be read back."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.frame import Capture, Uint8Array
from pipeline.sources import PatternSource, PatternSpec
from pipeline.sources.pattern import BARS
from pipeline.threads import StopFlag
from tests.media import play


def counter(capture: Capture) -> int:
    """The squares along the bottom, read as a binary number."""
    plane = capture.picture.planes[0]
    side = max(2, min(plane.shape[0] // 12, plane.shape[1] // 16) & ~1)
    row = plane[plane.shape[0] - side // 2]
    return int("".join("1" if row[bit * side + side // 2] > 128 else "0" for bit in range(16)), 2)


def test_finite_pattern() -> None:
    source = PatternSource("pattern:?size=320x180&fps=25&frames=40&people=3")
    info, captures = play(source)
    assert (info.width, info.height, info.fps, info.frames, info.duration_s) == (320, 180, 25.0, 40, 1.6)
    assert not info.live
    assert [counter(capture) for capture in captures] == list(range(40))
    assert [capture.index for capture in captures] == list(range(40))
    assert [capture.pts_s for capture in captures] == pytest.approx([n / 25 for n in range(40)])
    picture = captures[0].picture
    assert [plane.shape for plane in picture.planes] == [(180, 320), (90, 160), (90, 160)]
    assert (picture.layout, picture.matrix, picture.full_range) == ("yuv", "bt601", False)
    assert source.truncation is None


def test_bars_are_the_colours_that_they_are_called() -> None:
    """75 % bars by the definition of BT.601: Y = 16 + 219 (0.299 R + 0.587 G + 0.114 B), and its differences."""
    names = [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)]
    for (red, green, blue), bar in zip(0.75 * np.array(names), BARS, strict=True):
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        expected = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.772, 128 + 224 * (red - luma) / 1.402)
        assert bar == pytest.approx(expected, abs=0.51)


def test_deterministic_and_every_frame_its_own() -> None:
    def planes(people: int) -> list[Uint8Array]:
        captures = play(PatternSource(PatternSpec(128, 96, 30, 20, people)))[1]
        return [plane for capture in captures for plane in capture.picture.planes]

    for people in (0, 4):
        first, second = planes(people), planes(people)
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
        assert len({id(plane) for plane in first}) == len(first)
        lumas = {first[n].tobytes() for n in range(0, 60, 3)}
        assert len(lumas) == 20, "each frame differs"
    assert any(not np.array_equal(a, b) for a, b in zip(planes(0), planes(4), strict=True)), "people are seen"


def test_an_endless_pattern_is_a_feed() -> None:
    stop = StopFlag()
    source = PatternSource("pattern:")
    info, captures = play(source, limit=3, stop=stop)
    assert info.live
    assert info.frames is None
    assert all(capture.wall_ns is not None for capture in captures)
    source = PatternSource("pattern:")
    source.open(stop)
    stop.set()
    assert source.read() is None


def test_sizes_at_the_limits() -> None:
    for size in ("64x48", "66x50", "1920x1080"):
        _, captures = play(PatternSource(f"pattern://?size={size}&frames=1&people=100"))
        assert "x".join(map(str, captures[0].picture.planes[0].shape[::-1])) == size


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("pattern:?size=640", "size=640 is not valid"),
        ("pattern:?size=641x360", "expected even numbers"),
        ("pattern:?size=10x10", "expected even numbers from 64x48"),
        ("pattern:?fps=0", "fps 0"),
        ("pattern:?fps=nan", "fps nan"),
        ("pattern:?frames=-1", "frames must be"),
        ("pattern:?people=many", "people=many is not valid"),
        ("pattern:?colour=red", "unknown setting colour; expected size, fps, frames or people"),
    ],
)
def test_faulty_settings(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PatternSource(url)
