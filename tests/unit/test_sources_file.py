# SPDX-License-Identifier: Apache-2.0
"""Recordings: every frame once, in order, with the right times, whatever the codec does inside."""

from __future__ import annotations

import gc
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SourceInvalid
from pipeline.frame import Capture
from pipeline.sources import FileSource
from pipeline.threads import StopFlag
from pipeline.timing import SYSTEM
from tests.media import B_FRAMES, Media, counting, encode, indices, level_of, luma, media, play

__all__ = ["media"]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("options", [None, B_FRAMES], ids=["plain", "b_frames"])
def test_every_frame_once_and_in_order(media: Media, options: dict[str, str] | None, threads: int) -> None:
    info, captures = play(source := FileSource(media.clip(count=40, options=options), threads=threads))
    assert indices(captures) == list(range(40))
    assert [capture.index for capture in captures] == list(range(40))
    assert [capture.pts_s for capture in captures] == pytest.approx([n / 25 for n in range(40)], abs=1e-9)
    assert all(capture.wall_ns is None and not capture.corrupt and capture.epoch == 0 for capture in captures)
    assert source.truncation is None
    assert source.counters.decode_errors == 0
    assert (info.width, info.height, info.fps, info.frames, info.live) == (64, 48, 25.0, 40, False)
    assert info.codec == "h264"
    assert info.duration_s == pytest.approx(1.6)


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mkv", "libx264", B_FRAMES),
        ("ts", "libx264", B_FRAMES),
        ("avi", "mjpeg", {}),
        ("avi", "mpeg4", {"bf": "2", "b": "4M", "qmax": "2"}),
        ("mjpeg", "mjpeg", {}),
        ("h264", "libx264", None),
        ("flv", "libx264", None),
        ("mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"}),
        ("webm", "libvpx", {"deadline": "realtime", "cpu-used": "8", "crf": "4", "b": "2M"}),
        ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "4", "row-mt": "0"}),
        ("mp4", "libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}),
        ("mpg", "mpeg2video", {"qscale": "2"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_containers_and_codecs(media: Media, suffix: str, codec: str, options: dict[str, str] | None) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = media.clip(suffix, count=20, codec=codec, options=options, pix_fmt=pix_fmt, size=(128, 96))
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    info, captures = play(source := FileSource(path))
    assert indices(captures) == list(range(20))
    steps = np.diff([capture.pts_s for capture in captures])
    assert steps == pytest.approx([0.04] * 19, abs=0.0011), "stamps, or where there are none the declared rate"
    assert source.truncation is None
    assert (info.width, info.height) == (128, 96)


@pytest.mark.parametrize("threads", [1, 2])
def test_read_time_is_that_of_the_frames_own_packet(
    media: Media, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With B-frames a packet is read before those of frames shown earlier; a clock that counts shows which."""
    path = media.clip(count=24, options=B_FRAMES)
    ticks = iter(range(1, 10_000))
    monkeypatch.setattr(type(SYSTEM), "now_ns", lambda clock: next(ticks))
    _, captures = play(FileSource(path, threads=threads))

    import av

    with av.open(str(path)) as container:
        decode_order = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    rank = {pts: position for position, pts in enumerate(decode_order)}
    shown = [rank[pts] for pts in sorted(decode_order)]
    assert shown != sorted(shown), "the clip has no B-frames"
    by_read_time = np.argsort(np.argsort([capture.read_ns for capture in captures])).tolist()
    assert by_read_time == shown
    assert all(capture.read_ns < capture.decoded_ns for capture in captures)
    if threads == 1:
        waits = {capture.decoded_ns - capture.read_ns for capture in captures}
        assert waits == {1}, "the time in which other packets were read and decoded is none of its decoding"


def test_variable_frame_rate(media: Media) -> None:
    pts = [0, 40, 55, 300, 310, 1310, 1350]
    path = media.clip("mkv", count=7, pts=pts, time_base=Fraction(1, 1000))
    _, captures = play(source := FileSource(path))
    assert [capture.pts_s for capture in captures] == pytest.approx([value / 1000 for value in pts], abs=1e-9)
    assert source.truncation is None
    assert {capture.epoch for capture in captures} == {0}


def test_pts_start_at_the_first_frame_wherever_the_stamps_do(media: Media) -> None:
    path = media.clip("mkv", count=5, pts=[5000 + 40 * n for n in range(5)], time_base=Fraction(1, 1000))
    _, captures = play(source := FileSource(path))
    assert [capture.pts_s for capture in captures] == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.16])
    assert source.truncation is None


def test_odd_sizes_keep_their_last_row_and_column(media: Media) -> None:
    pix_fmt = "yuv444p"
    frame = counting(3, 641, 361, pix_fmt)
    path = encode(media.folder / "odd.mkv", [frame], options={"preset": "ultrafast", "qp": "0"})
    info, (capture,) = play(FileSource(path))
    assert (info.width, info.height) == (641, 361)
    assert {plane.shape for plane in capture.picture.planes} == {(361, 641)}
    assert (capture.picture.planes[0] == level_of(3)).all()


def test_odd_sizes_round_chroma_up(media: Media) -> None:
    path = media.clip("avi", count=2, codec="mjpeg", pix_fmt="yuvj420p", size=(321, 181), options={})
    _, captures = play(FileSource(path))
    assert [plane.shape for plane in captures[0].picture.planes] == [(181, 321), (91, 161), (91, 161)]


@pytest.mark.parametrize(("pix_fmt", "chroma"), [("yuv420p", (48, 64)), ("yuv422p", (96, 64)), ("yuv444p", (96, 128))])
def test_planes_are_views_on_the_decoders_frame(media: Media, pix_fmt: str, chroma: tuple[int, int]) -> None:
    path = media.clip(count=3, size=(128, 96), pix_fmt=pix_fmt)
    _, captures = play(FileSource(path))
    for capture in captures:
        assert [plane.shape for plane in capture.picture.planes] == [(96, 128), chroma, chroma]
        assert not any(plane.flags.owndata for plane in capture.picture.planes), "a copy was made"
    del capture
    gc.collect()
    assert [luma(capture) for capture in captures] == [level_of(n) for n in range(3)], "a picture outlives the source"


@pytest.mark.parametrize("clockwise", [0, 90, 180, 270])
def test_rotation_is_clockwise_and_changes_the_size_shown(media: Media, clockwise: int) -> None:
    path = media.clip(count=2, rotation=-clockwise)
    info, captures = play(FileSource(path))
    picture = captures[0].picture
    assert picture.rotation == clockwise
    assert picture.planes[0].shape == (48, 64), "nothing is turned here"
    shown = (48, 64) if clockwise in (90, 270) else (64, 48)
    assert (picture.width, picture.height) == (info.width, info.height) == shown


def test_a_size_that_changes_in_mid_stream(media: Media) -> None:
    small = media.clip("h264", count=6, size=(64, 48)).read_bytes()
    large = media.clip("h264", count=6, size=(96, 80)).read_bytes()
    _, captures = play(source := FileSource(media.file("change.h264", small + large + small)))
    sizes = [(capture.picture.width, capture.picture.height) for capture in captures]
    assert sizes == [(64, 48)] * 6 + [(96, 80)] * 6 + [(64, 48)] * 6
    assert indices(captures) == [*range(6)] * 3
    assert source.counters.decode_errors == 0
    assert np.diff([capture.pts_s for capture in captures]) == pytest.approx([0.04] * 17)


@pytest.mark.parametrize(("skip", "kept"), [("nonkey", 4), ("nonref", 16)])
def test_decoder_side_skipping(media: Media, skip: str, kept: int) -> None:
    """48 frames, a key frame every 12; of those between, every fourth is no B-frame."""
    path = media.clip(count=48, options=B_FRAMES)
    source = FileSource(path, skip=skip)  # type: ignore[arg-type]
    _, captures = play(source)
    assert len(captures) < 48
    if skip == "nonkey":
        assert [capture.pts_s for capture in captures] == pytest.approx([0.0, 0.48, 0.96, 1.44])
    assert source.counters.skipped == 48 - len(captures)
    assert source.truncation is None, "what was skipped on purpose is not missing"
    assert len(captures) == kept if skip == "nonkey" else 4 < len(captures) <= 30


def test_stop_ends_reading_without_a_verdict(media: Media) -> None:
    stop = StopFlag()
    source = FileSource(media.clip(count=40))
    source.open(stop)
    assert source.read() is not None
    stop.set()
    for _ in range(5):  # what is decoded may still come, then nothing
        if source.read() is None:
            break
    assert source.read() is None
    assert source.truncation is None
    source.close()


def test_stop_before_open(media: Media) -> None:
    stop = StopFlag()
    stop.set()
    _, captures = play(FileSource(media.clip(count=5)), stop=stop)
    assert captures == []


def test_closing_twice_and_in_mid_stream_leaves_nothing_open(media: Media) -> None:
    path = media.clip(count=40, options=B_FRAMES)
    before = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    for threads in (1, 4):
        for frames in range(6):
            source = FileSource(path, threads=threads)
            source.open(StopFlag())
            for _ in range(frames):
                source.read()
            source.close()
            source.close()
    assert (len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))) == before


def test_unopened_source_can_be_closed() -> None:
    source = FileSource("nowhere.mp4")
    source.close()
    assert source.read() is None


def test_file_urls_and_odd_names(media: Media) -> None:
    data = media.clip(count=3).read_bytes()
    for name in ("a b.mp4", "concat:x.mp4", "100%d.mp4", "-y.mp4", "naïve#1?.mp4"):
        path = media.file(name, data)
        assert len(play(FileSource(path))[1]) == 3
    assert len(play(FileSource(f"file://{media.folder}/a%20b.mp4"))[1]) == 3


def test_a_gap_in_the_stamps_keeps_its_length_and_grows_the_epoch(media: Media) -> None:
    pts = [0, 40, 80, 20080, 20120]
    _, captures = play(source := FileSource(media.clip("mkv", count=5, pts=pts, time_base=Fraction(1, 1000))))
    assert [capture.pts_s for capture in captures] == pytest.approx([0.0, 0.04, 0.08, 20.08, 20.12])
    assert [capture.epoch for capture in captures] == [0, 0, 0, 1, 1]
    assert source.counters.discontinuities == 1


def test_stamps_that_start_again_go_on_monotonically(media: Media) -> None:
    """Two transport streams one after the other, as a recorder that restarted writes them."""
    part = media.clip("ts", count=60, options={"preset": "ultrafast", "qp": "8"}).read_bytes()
    _, captures = play(source := FileSource(media.file("twice.ts", part + part)))
    stamps = [capture.pts_s for capture in captures]
    assert len(captures) == 120
    assert all(np.diff(stamps) > 0)
    assert stamps[-1] == pytest.approx(119 / 25, abs=0.1)
    assert captures[-1].epoch == source.counters.discontinuities == 1


def test_codec_that_is_not_allowed(media: Media) -> None:
    path = media.clip("mkv", count=3, codec="ffv1", options={})
    with pytest.raises(SourceInvalid, match=r"codec ffv1 is not allowed; expected one of .*h264") as caught:
        play(FileSource(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(SourceInvalid, match="codec h264 is not allowed"):
        play(FileSource(media.clip(count=3), codecs=frozenset({"hevc"})))


def test_first_frame_is_held_and_not_lost(media: Media) -> None:
    source = FileSource(media.clip(count=3))
    source.open(StopFlag())
    captures: list[Capture] = [capture for _ in range(3) if (capture := source.read()) is not None]
    assert indices(captures) == [0, 1, 2]
    source.close()


def test_path_objects_and_text(media: Media) -> None:
    path = media.clip(count=3)
    assert len(play(FileSource(str(path)))[1]) == len(play(FileSource(Path(path)))[1]) == 3
