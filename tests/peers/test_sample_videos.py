# SPDX-License-Identifier: Apache-2.0
"""The sample clips are what their README says: PyAV decodes them, motmetrics reads their truth, both fit together."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from sample_videos.camera import Camera
from sample_videos.clip import TICKS, Clip
from sample_videos.encode import LEAST_VISIBLE, to_yuv420, write_clip
from sample_videos.gait import SHANK, STANCE, THIGH, Build, stride_length, walking
from sample_videos.render import PLANS, load

FOLDER = Path(__file__).resolve().parent.parent.parent / "sample_videos"
NAMES = sorted(PLANS)


@dataclasses.dataclass(frozen=True)
class Decoded:
    pts_s: list[float]
    keyframes: list[int]
    types: set[str]
    size: tuple[int, int]
    colorspace: int
    color_range: int


def seconds(frame: av.VideoFrame) -> float:
    assert frame.pts is not None
    assert frame.time_base is not None
    return float(frame.pts * frame.time_base)


@cache
def decoded(name: str) -> Decoded:
    with av.open(str(FOLDER / f"{name}.mp4")) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        # One frame at a time: all of them together would take half a gigabyte.
        frames = [(seconds(one), one.key_frame, PictureType(one.pict_type).name) for one in container.decode(stream)]
        context = stream.codec_context
        return Decoded(
            pts_s=[pts_s for pts_s, _, _ in frames],
            keyframes=[index for index, (_, key, _) in enumerate(frames) if key],
            types={kind for _, _, kind in frames},
            size=(context.width, context.height),
            colorspace=int(context.colorspace),
            color_range=int(context.color_range),
        )


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_is_there_at_its_time(name: str) -> None:
    clip = load(name)
    assert decoded(name).size == (clip.camera.width, clip.camera.height)
    np.testing.assert_allclose(decoded(name).pts_s, np.array(clip.times) / TICKS, atol=1 / TICKS)
    assert 10 <= decoded(name).pts_s[-1] <= 20


@pytest.mark.parametrize("name", NAMES)
def test_keyframes_come_at_least_every_two_and_a_half_seconds(name: str) -> None:
    times = [decoded(name).pts_s[index] for index in decoded(name).keyframes]
    assert times[0] == 0
    assert max(np.diff([*times, decoded(name).pts_s[-1]])) <= 2.5


def test_one_clip_has_a_variable_frame_rate() -> None:
    steps = np.diff(decoded("lobby").pts_s)
    assert steps.min() < 0.04
    assert np.median(steps[(steps > 0.05)]) == pytest.approx(1 / 15, abs=0.005), "the dark part runs at half the rate"
    assert steps.max() > 0.35, "the hole"
    assert len(np.unique(np.round(steps, 4))) > 50, "jitter"
    for name in ("plaza", "gate"):
        assert np.ptp(np.diff(decoded(name).pts_s)) < 1e-6


def test_with_and_without_b_frames() -> None:
    assert decoded("plaza").types == {"I", "P"}
    assert decoded("gate").types == decoded("lobby").types == {"I", "P", "B"}


def test_colours_are_tagged() -> None:
    # AVColorSpace: bt709 1, unspecified 2, BT.601 5 or 6. AVColorRange: unspecified 0, limited 1.
    plaza, lobby, gate = (decoded(name).colorspace for name in ("plaza", "lobby", "gate"))
    assert (plaza, lobby) == (1, 2)
    assert gate in (5, 6)
    assert [decoded(name).color_range for name in ("plaza", "lobby", "gate")] == [1, 0, 1]


def test_all_files_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 8_000_000


@pytest.mark.parametrize("name", NAMES)
def test_motmetrics_reads_the_truth(name: str) -> None:
    motmetrics = pytest.importorskip("motmetrics")  # with pandas: a second
    clip = load(name)
    table = motmetrics.io.loadtxt(FOLDER / f"{name}.truth.txt", fmt="mot15-2D").reset_index()
    raw = np.loadtxt(FOLDER / f"{name}.truth.txt", delimiter=",")
    assert raw.shape[1] == 9
    assert table["FrameId"].min() >= 1
    assert table["FrameId"].max() == len(clip.times)
    assert not table.duplicated(["FrameId", "Id"]).any()
    # Counting: 80 px in a picture 360 high, and at most 40 % hidden.
    counts, height, visible = raw[:, 6], raw[:, 5], raw[:, 8]
    expected = (height >= 80 * clip.camera.height / 360) & (visible >= LEAST_VISIBLE)
    close = np.abs(visible - LEAST_VISIBLE) < 0.001  # written with three places
    assert (counts[~close] == expected[~close]).all()
    assert visible.min() > 0
    assert visible.max() <= 1
    assert (raw[:, 7] == 1).all()
    # Seen people lie at least partly inside, and no box jumps: bodies move, they do not teleport.
    assert ((table["X"] < clip.camera.width) & (table["X"] + table["Width"] > 0)).all()
    for _, path in table.groupby("Id"):
        near = path["FrameId"].diff() == 1
        centre = path["X"] + path["Width"] / 2
        assert (centre.diff()[near].abs() < 0.35 * path["Height"][near]).all()


def small(name: str) -> Clip:
    """The clip at an eighth of its size: everything is the same but the number of rays."""
    clip = load(name)
    camera = clip.camera
    shrunk = Camera(
        camera.width // 8 // 2 * 2,
        camera.height // 8 // 2 * 2,
        camera.focal_px / 8,
        camera.position,
        camera.yaw_deg,
        camera.pitch_deg,
    )
    return dataclasses.replace(clip, camera=shrunk)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "lobby" else pytest.mark.slow) for name in NAMES]
)
def test_a_frame_drawn_twice_is_the_same(name: str) -> None:
    clip = small(name)
    painter = clip.painter()
    number = 3 * len(clip.times) // 5
    picture, sightings = clip.frame(painter, number)
    clip.frame(painter, 10)  # what was drawn before leaves no trace
    again, seen = clip.frame(painter, number)
    np.testing.assert_array_equal(picture, again)
    assert sightings == seen
    assert sightings


@pytest.mark.slow  # of the pictures test_a_frame_drawn_twice_is_the_same says it
def test_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    clip = dataclasses.replace(small("lobby"), times=load("lobby").times[:3])
    files = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        files.append([path.read_bytes() for path in write_clip(clip, folder)])
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_the_video_on_file_is_this_rendering(name: str) -> None:
    """The picture that is drawn today is the one in the file, but for the losses of compression."""
    clip = load(name)
    picture, sightings = clip.frame(clip.painter(), 0)
    with av.open(str(FOLDER / f"{name}.mp4")) as container:
        luma = luma_of(next(container.decode(video=0)))
    drawn = to_yuv420(picture, clip.matrix)[: clip.camera.height].astype(float)
    assert np.abs(luma - drawn).mean() < 3
    first = [
        line.split(",") for line in (FOLDER / f"{name}.truth.txt").read_text().splitlines() if line.startswith("1,")
    ]
    assert [int(line[1]) for line in first] == [seen.person for seen in sightings]
    np.testing.assert_allclose(
        [[float(value) for value in line[2:6]] for line in first],
        [[seen.box[0] + 1, seen.box[1] + 1, *seen.box[2:]] for seen in sightings],
        atol=1.0,
    )


def luma_of(frame: av.VideoFrame) -> np.ndarray:
    plane = frame.planes[0]
    rows: np.ndarray = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[:, : frame.width].astype(float)


@pytest.mark.parametrize("speed", [1.1, 1.3, 1.45])
def test_feet_do_not_slide_and_bones_keep_their_length(speed: float) -> None:
    build = Build(stature=1.8)
    cycle = np.arange(0, 1, 0.02)
    poses = [walking(build, float(phase), speed) for phase in cycle]
    stride = stride_length(build, speed)
    down = [pose.ankles[0, 1] + phase * stride for pose, phase in zip(poses, cycle, strict=True) if phase < STANCE]
    assert np.ptp(down) < 1e-5
    for upper, lower, length in (("hips", "knees", THIGH), ("knees", "ankles", SHANK)):
        bones = [np.linalg.norm(getattr(pose, upper) - getattr(pose, lower), axis=1) for pose in poses]
        np.testing.assert_allclose(bones, length * build.stature, rtol=0.02)


def test_colour_conversion_by_hand() -> None:
    # BT.709, limited range: white, black and pure red (Kr 0.2126: Y = 16 + 219 * 0.2126 = 62.6, Cr at its top, 240).
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8)
    expected = [(235, 128, 128), (16, 128, 128), (63, 102, 240)]
    for colour, (y, u, v) in zip(colours, expected, strict=True):
        flat = to_yuv420(np.broadcast_to(colour, (2, 2, 3)), "bt709").ravel()
        assert flat.tolist() == [y, y, y, y, u, v]
