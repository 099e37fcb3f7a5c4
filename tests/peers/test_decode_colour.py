# SPDX-License-Identifier: Apache-2.0
"""Colours: bars of known RGB, coded by the standards' formulas in floats, come back as they were by the same formulas,
with nothing but what the Picture says about itself; and as ffmpeg itself shows them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from av.video.frame import VideoFrame

from pipeline.frame import Picture
from pipeline.sources import FileSource
from tests.media import LOSSLESS, Media, encode, filled, media, play

__all__ = ["media"]

FloatArray = npt.NDArray[np.float64]

COEFFICIENTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}  # Kr, Kb of ITU-R BT.601 and BT.709
BARS = np.array(
    [(255, 255, 255), (255, 255, 0), (0, 255, 255), (0, 255, 0), (255, 0, 255), (255, 0, 0), (0, 0, 255), (0, 0, 0)]
    + [(200, 30, 90), (12, 140, 60), (128, 128, 128), (64, 64, 200)],
    np.float64,
)
LOSSLESS_HEVC = {"preset": "ultrafast", "x265-params": "lossless=1:log-level=none:pools=none:frame-threads=1"}
WIDE = 16  # pixels per bar, so that chroma of any sub-sampling falls into one bar


def to_yuv(rgb: FloatArray, matrix: str, full: bool, bits: int = 8) -> FloatArray:
    """R'G'B' 0..255 to Y'CbCr codes of ``bits`` bits (ITU-R BT.601-7, BT.709-6, and H.273 for full range)."""
    kr, kb = COEFFICIENTS[matrix]
    red, green, blue = (rgb / 255.0).T
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    if full:
        peak = 2**bits - 1
        return np.stack([luma * peak, cb * peak + 2 ** (bits - 1), cr * peak + 2 ** (bits - 1)], axis=1)
    unit = 2 ** (bits - 8)
    return np.stack([219 * luma + 16, 224 * cb + 128, 224 * cr + 128], axis=1) * unit


def to_rgb(yuv: FloatArray, matrix: str, full: bool) -> FloatArray:
    """8-bit Y'CbCr codes (n, 3) to R'G'B' 0..255; the inverse of :func:`to_yuv`."""
    kr, kb = COEFFICIENTS[matrix]
    luma, cb, cr = (yuv - [0, 128, 128]).T
    if full:
        luma, cb, cr = luma / 255, cb / 255, cr / 255
    else:
        luma, cb, cr = (luma - 16) / 219, cb / 224, cr / 224
    red, blue = luma + (2 - 2 * kr) * cr, luma + (2 - 2 * kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], axis=1), 0, 1) * 255


def draw(
    matrix: str, full: bool, sub: tuple[int, int], bits: int = 8, height: int = 48
) -> list[npt.NDArray[np.uint16]]:
    """The bars as planes; ``sub`` is the chroma's (horizontal, vertical) sub-sampling."""
    codes = np.rint(to_yuv(BARS, matrix, full, bits)).clip(0, 2**bits - 1)
    dtype = np.uint8 if bits == 8 else np.uint16
    planes = []
    for number, (step_x, step_y) in enumerate([(1, 1), sub, sub]):
        row = np.repeat(codes[:, number], WIDE // step_x)
        planes.append(np.tile(row, (height // step_y, 1)).astype(dtype))
    return planes


def bars_of(picture: Picture) -> FloatArray:
    """Mean code of each bar, the pixels at its edges left out, from planes of any sub-sampling: (bars, channels)."""
    if picture.layout == "rgb":
        planes = [picture.planes[0][:, :, channel] for channel in range(3)]
    else:
        planes = list(picture.planes)
    columns = []
    for plane in planes:
        cells = plane.reshape(plane.shape[0], len(BARS), -1).astype(np.float64)
        edge = max(1, cells.shape[2] // 4)
        columns.append(cells[:, :, edge:-edge].mean(axis=(0, 2)))
    return np.stack(columns, axis=1)


def shown(picture: Picture) -> FloatArray:
    """R'G'B' of each bar, by what the picture says about itself."""
    codes = bars_of(picture)
    return codes if picture.layout == "rgb" else to_rgb(codes, picture.matrix, picture.full_range)


YUV = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}


def make(media: Media, matrix: str | None, full: bool, sub: str, bits: int, height: int = 48, coded: str = "") -> Path:
    pix_fmt = f"yuv{sub}p" + ("10le" if bits == 10 else "")
    path = media.folder / f"bars-{matrix}-{full}-{sub}-{bits}-{height}.mkv"
    if not path.exists():
        planes = draw(matrix or coded, full, YUV[sub], bits, height)
        frame = filled(planes, len(BARS) * WIDE, height, pix_fmt)
        encode(path, [frame, frame], options=LOSSLESS, matrix=matrix, full_range=full)
    return path


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("sub", ["420", "422", "444"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_bars_come_back(media: Media, matrix: str, full: bool, sub: str, bits: int) -> None:
    _, captures = play(FileSource(make(media, matrix, full, sub, bits)))
    picture = captures[0].picture
    assert (picture.layout, picture.matrix, picture.full_range) == ("yuv", matrix, full)
    assert all(plane.dtype == np.uint8 for plane in picture.planes)
    step_x, step_y = YUV[sub]
    assert picture.planes[1].shape == (48 // step_y, len(BARS) * WIDE // step_x), "sub-sampling is kept"
    # Codes are whole numbers, so RGB is off by up to a code's worth: 2 levels, and half a code more from 10 bits.
    assert np.abs(shown(picture) - BARS).max() < (2.0 if bits == 8 else 3.0)


@pytest.mark.parametrize(("height", "expected"), [(48, "bt601"), (576, "bt601"), (720, "bt709"), (1088, "bt709")])
def test_without_a_matrix_the_height_decides(media: Media, height: int, expected: str) -> None:
    _, captures = play(FileSource(make(media, None, False, "420", 8, height, coded=expected)))
    assert captures[0].picture.matrix == expected
    assert np.abs(shown(captures[0].picture) - BARS).max() < 2.0


@pytest.mark.parametrize("pix_fmt", ["yuvj420p", "yuvj422p", "yuvj444p"])
def test_motion_jpeg_is_full_range_bt601(media: Media, pix_fmt: str) -> None:
    """JFIF (ITU-T T.871) knows nothing else, whatever the height."""
    frame = filled(draw("bt601", True, YUV[pix_fmt[4:7]], 8, 720), len(BARS) * WIDE, 720, pix_fmt)
    path = encode(media.folder / f"{pix_fmt}.avi", [frame], codec="mjpeg", options={"qscale": "1", "qmin": "1"})
    _, captures = play(FileSource(path))
    picture = captures[0].picture
    assert (picture.matrix, picture.full_range) == ("bt601", True)
    assert np.abs(shown(picture) - BARS).max() < 6.0, "lossy"


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("libx264rgb", "rgb24"), ("libx264rgb", "bgr0"), ("rawvideo", "bgr24"), ("rawvideo", "bgra")],
)
def test_rgb_codecs_become_rgb_and_stay_upright(media: Media, codec: str, pix_fmt: str) -> None:
    """AVI keeps its rows from bottom to top, which libav hands on as a negative stride."""
    pixels = np.tile(np.repeat(BARS, WIDE, axis=0).astype(np.uint8), (48, 1, 1))
    pixels[24:] //= 2
    frame = VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pix_fmt)
    suffix = "avi" if codec == "rawvideo" else "mkv"
    path = encode(media.folder / f"{codec}-{pix_fmt}.{suffix}", [frame], codec=codec, options={"qp": "0"})
    _, captures = play(FileSource(path))
    picture = captures[0].picture
    assert picture.layout == "rgb"
    assert np.abs(picture.planes[0].astype(int) - pixels).max() <= 1


@pytest.mark.parametrize(("bits", "full"), [(8, False), (8, True), (10, False), (10, True)])
def test_grey(media: Media, bits: int, full: bool) -> None:
    grey = np.linspace(0, 255, len(BARS))
    rgb = np.stack([grey] * 3, axis=1)
    codes = np.rint(to_yuv(rgb, "bt601", full, bits)[:, 0])
    plane = np.tile(np.repeat(codes, WIDE), (48, 1)).astype(np.uint8 if bits == 8 else np.uint16)
    pix_fmt = "gray" if bits == 8 else "gray10le"
    frame = filled([plane], len(BARS) * WIDE, 48, pix_fmt)
    path = encode(
        media.folder / f"{pix_fmt}-{full}.mkv", [frame], codec="libx265", options=LOSSLESS_HEVC, full_range=full
    )
    _, captures = play(FileSource(path))
    picture = captures[0].picture
    assert (picture.layout, picture.full_range, len(picture.planes)) == ("gray", full, 1)
    code = bars_of(picture)[:, 0]
    level = code if full else (code - 16) / 219 * 255
    assert np.abs(level - grey).max() < 1.5


def test_packed_and_semi_planar_yuv(media: Media) -> None:
    """What webcams deliver: converted to planes with matrix, range and sub-sampling as they were."""
    y, u, v = (plane.astype(np.uint8) for plane in draw("bt601", False, (2, 1)))
    packed = np.empty((48, len(BARS) * WIDE * 2), np.uint8)
    packed[:, 0::2], packed[:, 1::4], packed[:, 3::4] = y, u, v
    frame = filled([packed], len(BARS) * WIDE, 48, "yuyv422")
    path = encode(media.folder / "yuyv.avi", [frame], codec="rawvideo", options={})
    _, captures = play(FileSource(path))
    picture = captures[0].picture
    assert picture.planes[1].shape == (48, len(BARS) * WIDE // 2)
    assert np.abs(shown(picture) - BARS).max() < 2.0


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the ffmpeg program is not installed")
@pytest.mark.parametrize(
    ("matrix", "full", "sub", "bits"),
    [("bt601", False, "420", 8), ("bt709", False, "420", 8)]
    + [("bt709", True, "444", 8), ("bt601", True, "422", 10), ("bt709", False, "420", 10)],
)
def test_as_ffmpeg_shows_them(media: Media, matrix: str, full: bool, sub: str, bits: int) -> None:
    path = make(media, matrix, full, sub, bits)
    raw = subprocess.run(
        [
            *(
                "ffmpeg",
                "-v",
                "error",
                "-i",
                str(path),
                "-frames:v",
                "1",
                "-sws_flags",
                "bitexact+accurate_rnd+full_chroma_int",
            ),
            *("-pix_fmt", "rgb24", "-f", "rawvideo", "-"),
        ],
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout
    pixels = np.frombuffer(raw, np.uint8).reshape(48, len(BARS) * WIDE, 3)
    theirs = bars_of(Picture((pixels,), "rgb"))
    _, captures = play(FileSource(path))
    assert np.abs(shown(captures[0].picture) - theirs).max() < 3.5


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the ffmpeg program is not installed")
@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_turned_as_ffmpeg_and_opencv_turn_it(media: Media, clockwise: int) -> None:
    """The corner that is bright in the coded picture is where both peers show it after turning."""
    import cv2

    luma = np.full((48, 64), 40, np.uint8)
    luma[:12, :16] = 220  # top left
    chroma = np.full((24, 32), 128, np.uint8)
    path = encode(
        media.folder / f"turned{clockwise}.mp4",
        [filled([luma, chroma, chroma], 64, 48, "yuv420p")] * 2,
        rotation=-clockwise,
    )
    _, captures = play(FileSource(path))
    picture = captures[0].picture
    upright = np.rot90(picture.planes[0], -picture.rotation // 90)  # rot90 turns counter-clockwise
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1", "-pix_fmt", "gray", "-f", "rawvideo", "-"],
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout
    ffmpeg = np.frombuffer(raw, np.uint8).reshape(picture.height, picture.width)
    reader = cv2.VideoCapture(str(path))
    _, opencv = reader.read()
    reader.release()
    assert opencv.shape[:2] == (picture.height, picture.width)
    assert (upright > 128).sum() == 12 * 16
    assert np.array_equal(upright > 128, ffmpeg > 128)
    assert np.array_equal(upright > 128, opencv[:, :, 1] > 128)
