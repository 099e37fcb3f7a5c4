# SPDX-License-Identifier: Apache-2.0
"""Our network input beside those of swscale, of OpenCV on a full-size RGB picture, and of two letterbox recipes."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from pipeline.frame import InputSpec, Picture
from pipeline.stages import Letterbox, full_picture

FOOTAGE = Path(__file__).parents[3] / "shared" / "footage"
CLIPS = ["one-by-one-person-detection.mp4", "bottle-detection.mp4"]
ACCURATE = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT  # without them swscale is 1 to 2 levels too bright


pytestmark = pytest.mark.usefixtures("one_thread")


def scene(width: int, height: int) -> Picture:
    """A 4:2:0 picture with what pictures have: shading, edges, texture, colour and sensor noise."""
    rng = np.random.default_rng(width)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    luma = 110 + 60 * np.sin(x / 170 + y / 230) + 25 * np.sin(x / 9) * np.sin(y / 11)
    for _ in range(40):
        left, top = rng.integers(0, width), rng.integers(0, height)
        across, down = rng.integers(5, width // 4), rng.integers(5, height // 3)
        luma[top : top + down, left : left + across] = rng.integers(20, 230)
    luma = np.clip(luma + rng.normal(0, 3, luma.shape), 16, 235).astype(np.uint8)
    rows, columns = (height + 1) // 2, (width + 1) // 2
    cx, cy = np.meshgrid(np.arange(columns), np.arange(rows))
    u = (128 + 40 * np.sin(cx / 83) * np.cos(cy / 61)).astype(np.uint8)
    v = (128 + 40 * np.cos(cx / 71 + cy / 97)).astype(np.uint8)
    return Picture((luma, u, v), "yuv")


def footage(name: str) -> list[Picture]:
    path = FOOTAGE / name
    if not path.exists():
        pytest.skip(f"the test footage {name} is not here")
    pictures = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % 40 == 7:
                sizes = [(frame.width, frame.height)] + [((frame.width + 1) // 2, (frame.height + 1) // 2)] * 2
                planes = tuple(
                    np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:rows, :columns]
                    for plane, (columns, rows) in zip(frame.planes, sizes, strict=True)
                )
                matrix = "bt709" if frame.colorspace == Colorspace.ITU709 else "bt601"
                pictures.append(Picture(planes, "yuv", matrix))
            if len(pictures) == 4:
                return pictures
    return pictures


def swscale(picture: Picture, width: int, height: int, flags: Interpolation) -> np.ndarray:
    """libswscale's own way from the planes to RGB of another size."""
    rows, columns = picture.planes[0].shape
    frame = av.VideoFrame(columns, rows, "yuv420p")
    for plane, values in zip(frame.planes, picture.planes, strict=True):
        view = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        view[: values.shape[0], : values.shape[1]] = values
    matrix = Colorspace.ITU709 if picture.matrix == "bt709" else Colorspace.ITU601
    span = ColorRange.JPEG if picture.full_range else ColorRange.MPEG
    return frame.reformat(
        width, height, "rgb24", src_colorspace=matrix, dst_colorspace=matrix, interpolation=flags,
        src_color_range=span, dst_color_range=ColorRange.JPEG, threads=1,
    ).to_ndarray()  # fmt: skip


def ours(picture: Picture, spec: InputSpec, *, antialias: bool = True) -> np.ndarray:
    out = np.empty(spec.shape, np.uint8)
    Letterbox(antialias=antialias).prepare(picture, spec, out)
    return out


def mean_difference(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.abs(one.astype(np.float64) - two).mean())


@pytest.mark.parametrize(("matrix", "full_range"), itertools.product(["bt601", "bt709"], [False, True]))
def test_colours_are_those_of_swscale(matrix, full_range):
    y, u, v = (cv2.GaussianBlur(plane, (0, 0), 3) for plane in scene(320, 240).planes)
    picture = Picture((y, u, v), "yuv", matrix, full_range)
    theirs = swscale(picture, 320, 240, Interpolation.BILINEAR | ACCURATE)
    difference = np.abs(full_picture(picture, "rgb").astype(int) - theirs)
    assert difference.mean() < 0.7
    assert np.quantile(difference, 0.999) <= 3  # chroma is repeated here and interpolated there


@pytest.mark.parametrize("source", [(1920, 1080), (1280, 720), (640, 480), (853, 479)])
@pytest.mark.parametrize("network", [(352, 352), (384, 640)])
def test_a_shrunk_picture_is_that_of_swscale(source, network):
    picture = scene(*source)
    spec = InputSpec(*network, fit="stretch")
    theirs = swscale(picture, spec.width, spec.height, Interpolation.BILINEAR | ACCURATE)
    even = source[0] % 2 == 0
    assert mean_difference(ours(picture, spec), theirs) < (2.0 if even else 3.0)


@pytest.mark.parametrize("name", CLIPS)
def test_real_footage_is_that_of_swscale(name):
    spec = InputSpec(198, 352, fit="stretch")
    for picture in footage(name):
        theirs = swscale(picture, spec.width, spec.height, Interpolation.BILINEAR | ACCURATE)
        assert mean_difference(ours(picture, spec), theirs) < 1.2


def ultralytics(bgr: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The recipe of Ultralytics' LetterBox, as its documentation and users know it."""
    height, width = bgr.shape[:2]
    ratio = min(rows / height, columns / width)
    size = round(width * ratio), round(height * ratio)
    gap_x, gap_y = (columns - size[0]) / 2, (rows - size[1]) / 2
    if (width, height) != size:
        bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_LINEAR)
    top, bottom, left, right = round(gap_y - 0.1), round(gap_y + 0.1), round(gap_x - 0.1), round(gap_x + 0.1)
    return cv2.copyMakeBorder(bgr, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))


def yolox(bgr: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The recipe of YOLOX's preproc."""
    ratio = min(rows / bgr.shape[0], columns / bgr.shape[1])
    resized = cv2.resize(bgr, (int(bgr.shape[1] * ratio), int(bgr.shape[0] * ratio)), interpolation=cv2.INTER_LINEAR)
    padded = np.full((rows, columns, 3), 114, np.uint8)
    padded[: resized.shape[0], : resized.shape[1]] = resized
    return padded


@pytest.mark.parametrize(("recipe", "how"), [(ultralytics, "letterbox"), (yolox, "top_left")])
@pytest.mark.parametrize("source", [(1920, 1080), (720, 1280), (640, 480), (641, 487), (320, 240)])
def test_without_antialias_it_is_the_recipe_on_a_full_size_picture(recipe, how, source):
    picture = scene(*source)
    for rows, columns in ((352, 352), (384, 640), (321, 416)):
        spec = InputSpec(rows, columns, "bgr", how)
        theirs = recipe(full_picture(picture, "bgr"), rows, columns)
        mine = ours(picture, spec, antialias=False)
        difference = np.abs(mine.astype(int) - theirs)
        assert difference.mean() < 0.8
        assert difference[np.abs(theirs.astype(int) - 114).max(-1) == 0].mean() < 0.5  # the padding, byte for byte


@pytest.mark.parametrize("name", CLIPS)
def test_the_antialiased_picture_stays_close_to_the_recipe_on_real_footage(name):
    for picture in footage(name):
        theirs = ultralytics(full_picture(picture, "bgr"), 352, 352)
        assert mean_difference(ours(picture, InputSpec(352, 352, "bgr")), theirs) < 1.5


def ideal(picture: Picture, rows: int, columns: int) -> np.ndarray:
    """Full-size RGB shrunk by a triangle filter over all pixels, in float32 (torch's antialiased bilinear)."""
    full = torch.from_numpy(full_picture(picture, "rgb")).permute(2, 0, 1)[None].float()
    small = torch.nn.functional.interpolate(full, (rows, columns), mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("source", [(1920, 1080), (1280, 720)])
def test_halving_brings_the_picture_nearer_to_the_ideal_one(source):
    picture, spec = scene(*source), InputSpec(198, 352, fit="stretch")
    reference = ideal(picture, spec.height, spec.width)
    errors = [
        float(np.sqrt(((ours(picture, spec, antialias=antialias) - reference) ** 2).mean()))
        for antialias in (True, False)
    ]
    assert errors[0] < 0.75 * errors[1]
