# SPDX-License-Identifier: Apache-2.0
"""``skip: auto``: what is left out, when, and that the asked rate holds whatever the stream does."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from pipeline.frame import Capture, SourceCounters
from pipeline.sources import AutoSkip, FileSource, Looping, Thinner
from pipeline.sources.decoding import Decoder
from pipeline.sources.libav import Opened, open_video
from pipeline.sources.nal import unneeded_by
from pipeline.sources.opening import Limits, file_target
from pipeline.threads import StopFlag
from tests.media import B_FRAMES, Media, counting, encode, level_of, luma, media, play

__all__ = ["media"]

OPEN_GOP = B_FRAMES | {"x264-params": "keyint=12:min-keyint=12:scenecut=0:threads=1:open-gop=1"}
HEVC = {"preset": "ultrafast", "x265-params": "keyint=24:min-keyint=24:bframes=3:open-gop=1:log-level=none:pools=1"}
LONG = {"x264-params": "keyint=10000:min-keyint=1:scenecut=0:threads=1"}
GOP_OF_A_SECOND = {"preset": "ultrafast", "qp": "8", "x264-params": "keyint=25:min-keyint=25:scenecut=0:threads=1"}


def kept(captures: list[Capture], fps: float) -> list[float]:
    thinner = Thinner(fps)
    return [capture.pts_s for capture in captures if thinner.keep(capture)]


def gaps(stamps: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(stamps)]


def auto(path: Path, fps: float) -> tuple[FileSource, AutoSkip, list[Capture]]:
    skip = AutoSkip(fps, "gate")
    source = FileSource(path, skip=skip)
    _, captures = play(source)
    return source, skip, captures


def test_key_frames_each_second_are_enough_for_one_frame_per_second(media: Media) -> None:
    path = media.clip("mkv", count=500, options=GOP_OF_A_SECOND)
    source, skip, captures = auto(path, 1.0)
    assert skip.mode == "nonkey"
    assert len(captures) == 101 + 15, "100 frames and one in 4 s of looking, then a key frame each second"
    assert source.counters.skipped == 500 - len(captures)
    _, every = play(FileSource(path))
    assert kept(captures, 1.0) == kept(every, 1.0)


@pytest.mark.parametrize(
    ("fps", "mode"), [(25.0, "none"), (13.0, "none"), (12.5, "nonref"), (5.0, "nonref"), (2.0, "nonkey")]
)
def test_with_b_frames_it_goes_by_the_asked_rate(media: Media, fps: float, mode: str) -> None:
    """Frames that others need come each 80 ms at most, key frames each 480 ms."""
    path = media.clip("mkv", count=400, options=B_FRAMES)
    source, skip, captures = auto(path, fps)
    assert skip.mode == mode
    assert len(captures) + source.counters.skipped == 400
    _, sparse = play(FileSource(path, skip=skip.mode))
    assert len(captures) == pytest.approx(101 + len(sparse) * 299 / 400, abs=6), "4 s of looking, then what is left"
    assert max(gaps(kept(captures, fps))) <= 2 / fps
    assert len(kept(captures, fps)) == pytest.approx(16 * fps, abs=1)


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_whatever_the_container(media: Media, suffix: str) -> None:
    source, skip, captures = auto(media.clip(suffix, count=250, options=B_FRAMES), 5.0)
    assert skip.mode == "nonref"
    assert 180 < len(captures) < 200
    assert source.counters.skipped == 250 - len(captures)


def test_every_frame_is_asked_for(media: Media) -> None:
    source, skip, captures = auto(media.clip("mkv", count=250, options=GOP_OF_A_SECOND), 30.0)
    assert (skip.mode, len(captures), source.counters.skipped) == ("none", 250, 0)


def with_keys_at(keys: Collection[int], count: int) -> Iterator[VideoFrame]:
    for number in range(count):
        frame = counting(number, 64, 48)
        frame.pict_type = PictureType.I if number in keys else PictureType.NONE
        yield frame


@pytest.mark.parametrize(
    ("options", "instead"),
    [(GOP_OF_A_SECOND, "none"), (B_FRAMES, "nonref"), (OPEN_GOP, "nonref")],
    ids=["plain", "b-frames", "open-gop"],
)
def test_a_camera_that_lengthens_its_gop(tmp_path: Path, options: dict[str, str], instead: str) -> None:
    """Once a key frame fails to come, decoding goes on at the next one, and with whole frames only."""
    long = options | LONG
    if options is OPEN_GOP:
        long["x264-params"] += ":open-gop=1"
    keys = {*range(0, 325, 25), *range(325, 675, 50), *range(675, 1175, 25)}
    path = encode(tmp_path / "smart.mkv", with_keys_at(keys, 1175), options=long)
    skip = AutoSkip(1.0, "gate")
    source = FileSource(path, skip=skip)
    modes, captures = [skip.mode], []
    source.open(StopFlag())
    try:
        while (capture := source.read()) is not None:
            captures.append(capture)
            modes += [skip.mode] if skip.mode != modes[-1] else []
    finally:
        source.close()
    assert modes == ["none", "nonkey", instead, "nonkey"]
    assert len(captures) + source.counters.skipped == 1175
    numbers = [round(capture.pts_s * 25) for capture in captures]
    assert [n for n, capture in zip(numbers, captures, strict=True) if abs(level_of(n) - luma(capture)) > 3] == []
    assert numbers == sorted(numbers)
    assert max(gaps(kept(captures, 1.0))) <= 2.04, "one gap of the new length, no more"
    _, every = play(FileSource(path, skip=instead))  # type: ignore[arg-type]
    afterwards = {n for capture in every if 375 <= (n := round(capture.pts_s * 25)) < 675}
    assert afterwards <= set(numbers), "everything that the new mode gives, from the key frame on"


def test_trust_comes_back_slower_each_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Half a minute of habit, a lapse, and again: each lapse costs one late frame, so lapses must become rare."""
    keys = {n for n in range(0, 7500, 25) if n % 750 != 725}
    path = encode(tmp_path / "fickle.mkv", with_keys_at(keys, 7500), options=GOP_OF_A_SECOND | LONG)
    with caplog.at_level(logging.INFO):
        auto(path, 1.0)
    lapses = sum(" every frame " in record.getMessage() for record in caplog.records)
    assert lapses == 6, "of 10: the looks of 4 s that must go well are 1, 2, 4, 8, ..."


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", GOP_OF_A_SECOND),
        ("libx264", OPEN_GOP | {"x264-params": "keyint=25:min-keyint=25:scenecut=0:threads=1:open-gop=1"}),
        ("libx265", HEVC),
        ("mpeg4", {"g": "25", "bf": "2", "qmin": "2", "qmax": "2"}),
    ],
    ids=["h264", "h264-open-gop", "hevc-open-gop", "mpeg4"],
)
@pytest.mark.parametrize("asked_at", [55, 70])
def test_after_key_frames_only_no_picture_lacks_what_it_was_made_from(
    media: Media, codec: str, options: dict[str, str], asked_at: int
) -> None:
    """Asked in the middle of a GOP to decode everything, it begins with the next key frame, and not before it."""
    counters = SourceCounters()
    path = media.clip("mkv", count=150, codec=codec, texture=True, options=options)
    with av.open(str(path)) as file:
        every = {frame.pts: frame.to_ndarray() for frame in file.decode(video=0)}
    opened = open_video(file_target(path), Limits())
    decoder = Decoder(opened.stream.codec_context, counters)
    given, frames = [], []
    packets = [packet for packet in opened.container.demux(opened.stream) if packet.size]
    for number, packet in enumerate(packets):
        if not decoder.leaves_out(packet, "nonkey" if number < asked_at else "none"):
            given.append(number)
            frames += decoder.decode(packet)
    frames += decoder.decode(None)
    resumed = next(number for number, packet in enumerate(packets) if number >= asked_at and packet.is_keyframe)
    assert all(packets[number].is_keyframe for number in given if number < resumed)
    stamps = [frame.pts or 0 for frame in frames]
    assert stamps == sorted(stamps)
    assert {pts for pts in every if (pts or 0) >= (packets[resumed].pts or 0)} <= set(stamps)
    assert len(frames) == len(given) == 150 - counters.skipped
    for frame in frames:
        assert np.array_equal(frame.to_ndarray(), every[frame.pts]), f"the picture at {frame.pts} is damaged"
    opened.container.close()


def test_where_all_are_key_frames_there_is_nothing_to_leave_out(media: Media, caplog: pytest.LogCaptureFixture) -> None:
    clip = media.clip("avi", count=250, codec="mjpeg", pix_fmt="yuvj420p", options={})
    with caplog.at_level(logging.INFO):
        source, skip, captures = auto(clip, 1.0)
    assert (skip.mode, len(captures), source.counters.skipped) == ("none", 250, 0)
    assert caplog.records == []


def test_it_says_so_once(media: Media, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        auto(media.clip("mkv", count=500, options=GOP_OF_A_SECOND), 1.0)
    assert [record.getMessage() for record in caplog.records] == [
        "gate: only key frames decoded from now on (skip: auto)"
    ]


def test_what_was_learned_outlives_a_lap(media: Media) -> None:
    path = media.clip("mkv", count=250, options=GOP_OF_A_SECOND)
    skip = AutoSkip(1.0, "gate")
    _, captures = play(Looping(lambda: FileSource(path, skip=skip)), limit=160)
    assert [capture.epoch for capture in captures].count(0) == 101 + 5
    assert [capture.epoch for capture in captures].count(1) == 10


class Counting:
    """Counts packets as they are read."""

    def __init__(self) -> None:
        self.packets = 0

    def begin(self, opened: Opened) -> None: ...

    def packet(self, packet: Packet[VideoStream], read_ns: int) -> None:
        self.packets += 1


@pytest.mark.parametrize("options", [B_FRAMES, OPEN_GOP], ids=["closed", "open"])
def test_key_frames_alone_come_all_and_at_once(media: Media, options: dict[str, str]) -> None:
    """A decoder that reorders holds them back for GOPs, and loses those of open GOPs."""
    path = media.clip("mkv", count=120, options=options)
    source, counter = FileSource(path, skip="nonkey"), Counting()
    source.watch(counter)
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    seen: list[int] = []
    found: list[float] = []
    source.open(StopFlag())
    try:
        while (capture := source.read()) is not None:
            seen.append(counter.packets - 1)
            found.append(capture.pts_s)
    finally:
        source.close()
    assert seen == keys
    shown = [float((packets[number].pts or 0) * (packets[number].time_base or 0)) for number in keys]
    assert found == pytest.approx([at - shown[0] for at in shown], abs=0.002)
    assert source.counters.skipped == 120 - len(keys)


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx264", "mkv", B_FRAMES),
        ("libx264", "mp4", B_FRAMES),
        ("libx264", "ts", B_FRAMES),
        ("libx264", "mkv", OPEN_GOP),
        ("libx265", "mkv", HEVC),
        ("libx265", "ts", HEVC),
    ],
)
def test_frames_that_no_other_needs_are_those_that_libav_passes_over(
    media: Media, codec: str, suffix: str, options: dict[str, str]
) -> None:
    path = media.clip(suffix, count=100, codec=codec, options=options)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        test = unneeded_by(stream.codec_context.codec.canonical_name, stream.codec_context.extradata)
        assert test is not None
        needed = {packet.pts for packet in file.demux(stream) if packet.size and not test(memoryview(packet))}
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.codec_context.skip_frame = "NONREF"
        decoded = {frame.pts for frame in file.decode(stream)}
    assert needed == decoded
    assert len(needed) < 70


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\1", b"\0\0\0\1", b"\xff" * 50])
@pytest.mark.parametrize("extradata", [None, b"", b"\1", bytes([1, *range(30)])[:3]])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_nonsense_counts_as_needed(data: bytes, extradata: bytes | None, codec: str) -> None:
    test = unneeded_by(codec, extradata)
    assert test is not None
    assert not test(memoryview(data))


def test_other_codecs_are_not_known() -> None:
    assert unneeded_by("mpeg4", None) is None
