# SPDX-License-Identifier: Apache-2.0
"""Frame counts, time stamps and pictures against OpenCV, ffprobe and PyAV's plain loop, on clips and real footage."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.frame import Capture
from pipeline.sources import FileSource, probe
from tests.media import B_FRAMES, Media, media, play

__all__ = ["media"]

FOOTAGE = Path(__file__).parents[2].parent / "shared" / "footage"
needs_ffprobe = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="the ffprobe program is not installed")


def clips(media: Media) -> dict[str, Path]:
    uneven = [0, 40, 55, 300, 310, 1310, 1350, 1380]
    return {
        "b_frames.mp4": media.clip("mp4", count=40, options=B_FRAMES),
        "b_frames.ts": media.clip("ts", count=40, options=B_FRAMES),
        "uneven.mkv": media.clip("mkv", count=8, pts=uneven, time_base=Fraction(1, 1000)),
        "ntsc.mp4": media.clip("mp4", count=31, rate=Fraction(30000, 1001), time_base=Fraction(1001, 30000)),
        "motion.avi": media.clip("avi", count=20, codec="mjpeg", pix_fmt="yuvj420p", options={}),
        "late.mkv": media.clip("mkv", count=9, pts=[7000 + 33 * n for n in range(9)], time_base=Fraction(1, 1000)),
    }


NAMES = ["b_frames.mp4", "b_frames.ts", "uneven.mkv", "ntsc.mp4", "motion.avi", "late.mkv"]


@needs_ffprobe
@pytest.mark.parametrize("name", NAMES)
def test_count_and_stamps_as_ffprobe_has_them(media: Media, name: str) -> None:
    path = clips(media)[name]
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "frame=pts_time"]
        + ["-of", "json", str(path)],
        capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    frames = json.loads(done.stdout)["frames"]
    theirs = [float(frame["pts_time"]) for frame in frames]
    _, captures = play(FileSource(path))
    assert [capture.pts_s for capture in captures] == pytest.approx([at - theirs[0] for at in theirs], abs=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_count_as_opencv_has_it(media: Media, name: str) -> None:
    path = clips(media)[name]
    reader = cv2.VideoCapture(str(path))
    count = 0
    while reader.grab():
        count += 1
    reader.release()
    assert len(play(FileSource(path))[1]) == count


def digest(captures: list[Capture]) -> list[str]:
    return [
        hashlib.sha256(b"".join(np.ascontiguousarray(plane).tobytes() for plane in capture.picture.planes)).hexdigest()
        for capture in captures
    ]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["one-by-one-person-detection.mp4", "bottle-detection.mp4"])
def test_real_footage_is_decoded_bit_for_bit(name: str, threads: int) -> None:
    """Against PyAV's own plain loop and its own packing of the planes."""
    path = FOOTAGE / name
    if not path.exists():
        pytest.skip(f"the footage {name} is not here")
    _, captures = play(FileSource(path, threads=threads), limit=120)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        theirs = []
        for number, frame in enumerate(container.decode(stream)):
            if number == 120:
                break
            theirs.append((hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest(), frame.time))
    assert digest(captures) == [value for value, _ in theirs]
    start = theirs[0][1]
    assert [capture.pts_s for capture in captures] == pytest.approx([at - start for _, at in theirs], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "frames", "fps", "size"),
    [("one-by-one-person-detection.mp4", 1394, 10, (768, 432)), ("bottle-detection.mp4", 1189, 29.83, (640, 360))],
)
def test_real_footage_as_its_notes_describe_it(name: str, frames: int, fps: float, size: tuple[int, int]) -> None:
    path = FOOTAGE / name
    if not path.exists():
        pytest.skip(f"the footage {name} is not here")
    report = probe(FileSource(path))
    assert (report.declared_frames, report.width, report.height, report.codec) == (frames, *size, "h264")
    assert report.measured_fps == pytest.approx(fps, abs=0.01)


@needs_ffprobe
def test_probe_agrees_with_ffprobe(media: Media) -> None:
    path = media.clip("mp4", count=60, options=B_FRAMES)
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_packets", "-of", "json"]
        + ["-show_entries", "stream=codec_name,profile,pix_fmt,width,height"]
        + ["-show_entries", "stream=avg_frame_rate,has_b_frames,nb_read_packets"]
        + ["-show_entries", "packet=flags", str(path)],
        capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    theirs = json.loads(done.stdout)
    stream = theirs["streams"][0]
    report = probe(FileSource(path), seconds=60)
    assert (report.codec, report.profile, report.pix_fmt) == (
        stream["codec_name"],
        stream["profile"],
        stream["pix_fmt"],
    )
    assert (report.width, report.height) == (stream["width"], stream["height"])
    assert report.declared_fps == float(Fraction(stream["avg_frame_rate"]))
    assert report.frames == int(stream["nb_read_packets"])
    assert report.b_frames == (stream["has_b_frames"] > 0)
    keys = [number for number, packet in enumerate(theirs["packets"]) if packet["flags"].startswith("K")]
    assert report.gop_max == max(np.diff(keys))
