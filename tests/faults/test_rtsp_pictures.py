# SPDX-License-Identifier: Apache-2.0
"""Pictures that are complete before the next one begins: shown at once, and made up for where the camera changes."""

from __future__ import annotations

import itertools

import pytest

from pipeline.errors import SourceError
from pipeline.frame import Capture, SourceCounters
from pipeline.redact import SourceUrl
from pipeline.sources import CameraSource
from pipeline.threads import StopFlag
from tests.faults.camera import Camera, Fault, Shows, Stalls, read_clip, serving
from tests.media import Media, media

__all__ = ["media"]

ENCODERS = {"libx264": "x264-params", "libx265": "x265-params"}


def options(codec: str, slices: int) -> dict[str, str]:
    extra = ":log-level=none" if codec == "libx265" else ""
    return {
        "preset": "ultrafast",
        "crf": "25",
        ENCODERS[codec]: f"keyint=20:min-keyint=20:scenecut=0:bframes=0:slices={slices}{extra}",
    }


def camera(media: Media, codec: str, slices: int, fault: Fault | None = None) -> Camera:
    clip = media.clip("mkv", size=(320, 192), count=40, texture=True, codec=codec, options=options(codec, slices))
    return Camera("gate", read_clip(clip), fps=60, faults=[] if fault is None else [fault])


def watch(url: str, limit: int, **options: object) -> tuple[list[Capture], SourceCounters, SourceError | None]:
    """Up to ``limit`` frames, and the error that ended them before."""
    source = CameraSource(SourceUrl.parse(url), open_timeout_s=2.0, read_timeout_s=1.5, **options)  # type: ignore[arg-type]
    captures: list[Capture] = []
    failure = None
    try:
        source.open(StopFlag())
        while len(captures) < limit:
            capture = source.read()
            assert capture is not None
            captures.append(capture)
    except SourceError as error:
        failure = error
    finally:
        source.close()
    return captures, source.counters, failure


@pytest.mark.parametrize(
    ("codec", "slices", "parser"),
    [("libx264", 1, "auto"), ("libx264", 3, "auto"), ("libx265", 1, "auto"), ("libx264", 1, "libav")],
)
def test_a_picture_is_shown_although_no_other_follows(media: Media, codec: str, slices: int, parser: str) -> None:
    """The camera falls silent after 30 pictures; libav keeps the last one until the connection is given up."""
    with serving(camera(media, codec, slices, Stalls(after=30))) as cameras:
        captures, _, failure = watch(cameras.url("gate"), 30, parser=parser)
    assert (len(captures), failure) == (30, None)
    waited_s = (captures[-1].read_ns - captures[-2].read_ns) / 1e9
    assert (waited_s < 1.0) == (parser == "auto"), waited_s


def test_another_number_of_slices_in_mid_stream_costs_a_part_of_one_picture(media: Media) -> None:
    clip = camera(media, "libx264", 4).clip
    with serving(camera(media, "libx264", 1, Shows(clip, after=30))) as cameras:
        captures, counters, failure = watch(cameras.url("gate"), 110)
    assert (len(captures), failure) == (110, None)
    assert counters.decode_errors <= 1
    steps = [round((after.pts_s - before.pts_s) * 60) for before, after in itertools.pairwise(captures)]
    assert sum(step != 1 for step in steps) <= 1, "but for the tick that put the other clip in"


def test_a_rate_that_nobody_declared_is_not_known(media: Media) -> None:
    with serving(camera(media, "libx264", 1)) as cameras:
        source = CameraSource(SourceUrl.parse(cameras.url("gate")))
        try:
            info = source.open(StopFlag())
        finally:
            source.close()
    assert (info.width, info.height, info.fps) == (320, 192, None)
