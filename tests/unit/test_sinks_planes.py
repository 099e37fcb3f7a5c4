# SPDX-License-Identifier: Apache-2.0
"""Any decoded picture becomes upright, even-sized, limited-range 4:2:0: compared with libswscale."""

from __future__ import annotations

from typing import Literal

import av
import numpy as np
import pytest

from pipeline.frame import Matrix, Picture, Rotation
from pipeline.sinks.planes import even, fill_planes

COLORSPACE = {"bt601": 5, "bt709": 1}


def scene(height: int, width: int) -> np.ndarray:
    """A smooth RGB picture whose corners all differ."""
    down, right = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    return np.stack([30 + 200 * right + 0 * down, 220 - 180 * down + 0 * right, 40 + 90 * (down + right)], -1).astype(
        np.uint8
    )


def planes_of(frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
    return tuple(
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width].copy()
        for plane in frame.planes
    )


def by_swscale(rgb: np.ndarray, pixels: str, matrix: Matrix, full: bool = False) -> tuple[np.ndarray, ...]:
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        format=pixels,
        dst_colorspace=COLORSPACE[matrix],
        src_color_range="JPEG",
        dst_color_range="JPEG" if full else "MPEG",
        interpolation="AREA",
    )
    return planes_of(frame)


def filled(picture: Picture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    height, width = even(picture.height), even(picture.width)
    y = np.empty((height, width), np.uint8)
    u, v = (np.empty((height // 2, width // 2), np.uint8) for _ in range(2))
    fill_planes(picture, y, u, v)
    return y, u, v


def near(ours: tuple[np.ndarray, ...], theirs: tuple[np.ndarray, ...], luma: int = 1, chroma: int = 2) -> None:
    for got, expected, most in zip(ours, theirs, (luma, chroma, chroma), strict=True):
        assert np.abs(got[: expected.shape[0], : expected.shape[1]].astype(int) - expected).max() <= most


def test_420_is_copied_as_it_is() -> None:
    planes = by_swscale(scene(48, 64), "yuv420p", "bt601")
    for got, expected in zip(filled(Picture(planes, "yuv")), planes, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("pixels", ["yuv422p", "yuv444p", "yuv411p", "yuv440p", "yuv410p"])
def test_other_sub_sampling(pixels: str) -> None:
    planes = by_swscale(scene(48, 64), pixels, "bt601")
    # 4:1:1 and 4:1:0 have less colour than 4:2:0 and it is spread by nearest neighbour: a coarse bound.
    near(filled(Picture(planes, "yuv")), by_swscale(scene(48, 64), "yuv420p", "bt601"), 1, 6)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("layout", ["rgb", "full"])
def test_rgb_and_full_range(matrix: Matrix, layout: str) -> None:
    rgb = scene(48, 64)
    picture = (
        Picture((rgb,), "rgb", matrix)
        if layout == "rgb"
        else Picture(by_swscale(rgb, "yuv420p", matrix, full=True), "yuv", matrix, full_range=True)
    )
    near(filled(picture), by_swscale(rgb, "yuv420p", matrix))


def test_gray_is_full_range_without_colour() -> None:
    y, u, v = filled(Picture((np.array([[0, 128], [255, 64]], np.uint8),), "gray"))
    np.testing.assert_array_equal(y, [[16, 126], [235, 71]])
    assert u.tolist() == v.tolist() == [[128]]


@pytest.mark.parametrize("layout", ["yuv", "rgb", "gray"])
@pytest.mark.parametrize(("height", "width"), [(47, 63), (1, 1), (48, 63), (47, 64), (3, 2)])
def test_the_odd_pixel_is_repeated(layout: Literal["yuv", "rgb", "gray"], height: int, width: int) -> None:
    rgb = scene(height, width)
    planes = {
        "yuv": (rgb[:, :, 0], rgb[::2, ::2, 1], rgb[::2, ::2, 2]),
        "rgb": (rgb,),
        "gray": (rgb[:, :, 0],),
    }[layout]
    picture = Picture(tuple(np.ascontiguousarray(plane) for plane in planes), layout)
    y, u, v = filled(picture)
    assert y.shape == (even(height), even(width))
    assert u.shape == v.shape == (even(height) // 2, even(width) // 2)
    np.testing.assert_array_equal(y[-1], y[height - 1])
    np.testing.assert_array_equal(y[:, -1], y[:, width - 1])


@pytest.mark.parametrize("layout", ["yuv", "422", "rgb", "gray"])
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_clockwise(layout: str, rotation: Rotation) -> None:
    rgb = scene(48, 64)
    upright = np.ascontiguousarray(np.rot90(rgb, -rotation // 90))

    def picture(source: np.ndarray, turn: Rotation) -> Picture:
        if layout == "rgb":
            return Picture((source,), "rgb", rotation=turn)
        if layout == "gray":
            return Picture((source[:, :, 0].copy(),), "gray", rotation=turn)
        pixels = "yuv422p" if layout == "422" else "yuv420p"
        return Picture(by_swscale(source, pixels, "bt601"), "yuv", rotation=turn)

    near(filled(picture(rgb, rotation)), filled(picture(upright, 0)), 1, 4)


def test_a_decoders_padded_rows_are_no_obstacle() -> None:
    padded = np.zeros((48, 96), np.uint8)
    padded[:, :64] = scene(48, 64)[:, :, 0]
    chroma = np.full((24, 48), 90, np.uint8)
    for rotation in (0, 90):
        y, u, _ = filled(Picture((padded[:, :64], chroma[:, :32], chroma[:, :32]), "yuv", rotation=rotation))
        np.testing.assert_array_equal(y, np.rot90(padded[:, :64], -rotation // 90))
        assert (u == 90).all()
