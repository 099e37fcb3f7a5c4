# SPDX-License-Identifier: Apache-2.0
"""Annotated videos, decoded again: pictures, times, parts, and what is on the disk while a file grows."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.errors import SinkError
from pipeline.frame import Detections, Matrix, Picture, Result, Rotation, StreamInfo
from pipeline.sinks import VideoSink
from pipeline.sinks.drawing import PALETTE
from pipeline.sinks.mp4 import Mp4File, is_bare

LABELS = {0: "person"}


def picture(
    width: int = 96, height: int = 64, luma: int = 100, rotation: Rotation = 0, matrix: Matrix = "bt601"
) -> Picture:
    y = np.full((height, width), luma, np.uint8)
    chroma = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    return Picture((y, chroma, chroma), "yuv", matrix, rotation=rotation)


def result(
    frame: int, pts: float, shown: Picture | None = None, boxes: Iterable[tuple[float, ...]] = (), stream: str = "cam"
) -> Result:
    shown = shown or picture(luma=40 + frame % 150)
    found = np.array(list(boxes), np.float32).reshape(-1, 4)
    detections = Detections(found, np.full(len(found), 0.9, np.float32), np.zeros(len(found), np.int64))
    return Result(stream, frame, pts, None, shown.width, shown.height, detections, LABELS, picture=shown)


def record(folder: Path, results: Iterable[Result], **options: Any) -> None:
    sink = VideoSink(folder / "{stream}.mp4", **options)
    sink.open()
    sink.begin(StreamInfo("cam", fps=25))
    for each in results:
        sink.write(each)
    sink.end("cam")
    sink.close()


def played(path: Path) -> list[tuple[float, np.ndarray]]:
    """(pts in s, RGB picture) of every frame."""
    with av.open(str(path)) as container:
        return [
            (float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]


def boxes_of(path: Path) -> Iterator[tuple[str, int]]:
    """Type and size of the top-level boxes of an MP4 file (ISO/IEC 14496-12, 4.2)."""
    data = path.read_bytes()
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind.decode("ascii"), size
        at += size
    assert at == len(data)


def test_every_frame_is_there_at_its_own_time(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.2, 0.21, 1.5, 1.533367, 7.25, 7.26]  # variable rate, with gaps
    record(tmp_path, [result(n, pts) for n, pts in enumerate(times)])
    frames = played(tmp_path / "cam.mp4")
    assert [pts for pts, _ in frames] == pytest.approx(times, abs=0.5 / 90_000 + 1e-9)
    for n, (_, shown) in enumerate(frames):
        expected = (40 + n - 16) * 255 / 219
        assert np.abs(shown.astype(float) - expected).max() < 6


def test_a_film_that_begins_late_keeps_its_time(tmp_path: Path) -> None:
    record(tmp_path, [result(9, 3.2), result(10, 3.24)])
    assert [pts for pts, _ in played(tmp_path / "cam.mp4")] == pytest.approx([3.2, 3.24], abs=1e-5)


def test_time_stamps_that_break_go_on_one_interval_later(tmp_path: Path) -> None:
    times = [-0.5, -0.46, -0.42, -0.42, -3.0, -2.96, 9000.0, 9000.04]
    record(tmp_path, [result(n, pts) for n, pts in enumerate(times)])
    expected = [0.04 * n for n in range(8)]
    assert [pts for pts, _ in played(tmp_path / "cam.mp4")] == pytest.approx(expected, abs=1e-4)


def test_a_browser_can_play_it(tmp_path: Path) -> None:
    record(tmp_path, [result(n, n / 25) for n in range(60)])
    with av.open(str(tmp_path / "cam.mp4")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.profile, context.pix_fmt, context.codec_tag) == (
            "h264",
            "High",
            "yuv420p",
            "avc1",
        )
        assert context.color_range == 1
        assert stream.time_base == Fraction(1, 90_000)
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert all(packet.dts == packet.pts for packet in packets), "no B-frames"
    kinds = [kind for kind, _ in boxes_of(tmp_path / "cam.mp4")]
    assert kinds[:4] == ["ftyp", "moov", "moof", "mdat"], "a player can begin at once"
    assert kinds[2:-1] == ["moof", "mdat"] * ((len(kinds) - 3) // 2)
    assert kinds[-1] == "mfra"


@pytest.mark.parametrize("fps", [1, 5, 25, 60])
def test_key_frames_come_by_time(tmp_path: Path, fps: int) -> None:
    record(tmp_path, [result(n, n / fps, picture()) for n in range(6 * fps)])
    with av.open(str(tmp_path / "cam.mp4")) as container:
        keys = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.is_keyframe]
    assert keys == pytest.approx([0, 2, 4])


@pytest.mark.parametrize(("matrix", "code"), [("bt601", 6), ("bt709", 1)])
def test_the_colours_are_labelled(tmp_path: Path, matrix: Matrix, code: int) -> None:
    record(tmp_path, [result(0, 0.0, picture(matrix=matrix))])
    with av.open(str(tmp_path / "cam.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (code, code, code)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_boxes_are_seen_where_they_are_and_in_their_colour(tmp_path: Path, matrix: Matrix) -> None:
    shown = picture(320, 240, matrix=matrix)
    record(tmp_path, [result(n, n / 25, shown, [(100, 60, 220, 200)]) for n in range(3)], crf=10)
    with av.open(str(tmp_path / "cam.mp4")) as container:
        frame = next(container.decode(video=0))
        code = 5 if matrix == "bt601" else 1
        rgb = frame.reformat(format="rgb24", src_colorspace=code, dst_colorspace=code).to_ndarray()
    for row in (80, 130, 190):
        near = np.abs(rgb[row].astype(int) - PALETTE[0]).max(axis=1) < 30
        assert np.flatnonzero(near).tolist() == [100, 101, 218, 219]
    assert np.abs(rgb[130, 110:210].astype(int) - 98).max() < 8


@pytest.mark.parametrize(("width", "height"), [(95, 63), (95, 64), (96, 63), (17, 1), (1, 1)])
def test_odd_sizes_gain_a_pixel(tmp_path: Path, width: int, height: int) -> None:
    record(tmp_path, [result(n, n / 25, picture(width, height)) for n in range(3)])
    frames = played(tmp_path / "cam.mp4")
    assert len(frames) == 3
    assert frames[0][1].shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(frames[2][1].astype(int) - 98).max() < 6


def test_a_turned_picture_is_upright(tmp_path: Path) -> None:
    lying = picture(96, 64, rotation=90)
    lying.planes[0][:, :48] = 200  # the left half comes to the top when turned clockwise
    record(tmp_path, [result(0, 0.0, lying)])
    ((_, shown),) = played(tmp_path / "cam.mp4")
    assert shown.shape == (96, 64, 3)
    assert shown[:44].mean() > 190
    assert shown[52:].mean() < 110


def test_a_new_size_begins_a_new_file(tmp_path: Path) -> None:
    small, large = picture(96, 64), picture(128, 96)
    sizes = [small, small, large, large, small]
    record(tmp_path, [result(n, 1 + n / 25, shown) for n, shown in enumerate(sizes)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cam.2.mp4", "cam.3.mp4", "cam.mp4"]
    parts = [played(tmp_path / name) for name in ("cam.mp4", "cam.2.mp4", "cam.3.mp4")]
    assert [[shown.shape[:2] for _, shown in part] for part in parts] == [[(64, 96)] * 2, [(96, 128)] * 2, [(64, 96)]]
    assert [part[0][0] for part in parts] == pytest.approx([1.0, 0.0, 0.0])


def test_a_run_replaces_what_an_earlier_one_left(tmp_path: Path) -> None:
    for name in ("cam.mp4", "cam.2.mp4", "cam.7.mp4"):
        (tmp_path / name).write_bytes(b"old")
    for name in ("cam.notes.mp4", "cam-2.mp4", "camera.mp4"):
        (tmp_path / name).write_bytes(b"another's")
    record(tmp_path, [result(0, 0.0)])
    names = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(names) == {"cam.mp4", "cam.notes.mp4", "cam-2.mp4", "camera.mp4"}
    assert names["cam.mp4"] > 500


def test_a_stream_without_frames_has_no_video(tmp_path: Path) -> None:
    (tmp_path / "cam.mp4").write_bytes(b"old")
    record(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


def test_a_daemon_that_starts_again_keeps_its_films(tmp_path: Path) -> None:
    for _ in range(3):
        record(tmp_path, [result(0, 0.0)], mode="append")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cam.2.mp4", "cam.3.mp4", "cam.mp4"]


def test_a_stream_that_comes_back_within_a_run_gets_another_part(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "{stream}.mp4")
    sink.open()
    sink.begin(StreamInfo("cam"))
    sink.write(result(0, 0.0))
    sink.begin(StreamInfo("cam"))  # before the end of its first life was told
    sink.write(result(0, 5.0))
    sink.write(result(1, 5.1, stream="unannounced"))
    sink.close()
    assert [len(played(tmp_path / f"{name}.mp4")) for name in ("cam", "cam.2", "unannounced")] == [1, 1, 1]


def test_the_file_only_grows_and_lags_by_a_fragment_at_most(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "{stream}.mp4")
    sink.open()
    sink.begin(StreamInfo("cam", fps=10))
    path, before = tmp_path / "cam.mp4", b""
    for n in range(60):
        sink.write(result(n, n / 10))
        now = path.read_bytes()
        assert now.startswith(before), "what was written is never changed"
        before = now
        if n % 15 == 14:
            on_disk = tmp_path / "copy.mp4"
            on_disk.write_bytes(now)
            # one second of fragment, five frames of look-ahead and the frame that tells that a fragment is over
            assert len(played(on_disk)) >= n + 1 - 10 - 5 - 2
    sink.close()
    assert len(played(path)) == 60


@pytest.mark.parametrize(("wall_ns", "pts"), [(None, 3723.5), (1_795_447_445_123_456_789, 0.0), (None, -0.2)])
def test_captions_are_drawn(tmp_path: Path, wall_ns: int | None, pts: float) -> None:
    shown = picture(320, 240)
    plain = result(0, pts, shown)
    live = Result("cam", 0, pts, wall_ns, 320, 240, plain.detections, LABELS, picture=shown)
    record(tmp_path, [live], captions=True)
    ((_, rgb),) = played(tmp_path / "cam.mp4")
    assert rgb[-14:, :60].min() < 40
    assert rgb[-14:, :60].max() > 180
    assert np.abs(rgb[:200].astype(int) - 98).max() < 8


def test_a_result_without_a_picture_is_said_to_be_missing(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "{stream}.mp4")
    sink.open()
    bare = Result("cam", 4, 0.1, None, 96, 64, Detections.empty(), LABELS)
    with pytest.raises(SinkError, match="cam frame 4 came without its picture"):
        sink.write(bare)
    sink.close()


def test_a_malformed_picture_costs_one_frame(tmp_path: Path) -> None:
    good = picture()
    bad = Picture((good.planes[0], np.zeros((0, 0), np.uint8), good.planes[2]), "yuv")
    sink = VideoSink(tmp_path / "{stream}.mp4")
    sink.open()
    sink.write(result(0, 0.0))
    with pytest.raises(SinkError, match="cam frame 1: the picture is malformed"):
        sink.write(result(1, 0.04, bad))
    sink.write(result(2, 0.08))
    sink.close()
    assert len(played(tmp_path / "cam.mp4")) == 2


def test_a_size_that_h264_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"cannot encode .*/a\.mp4 \(20000x2, H\.264\)"):
        Mp4File(tmp_path / "a.mp4", 20_000, 2)


def test_a_missing_encoder_is_found_when_the_sink_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str, mode: str) -> None:
        raise ValueError(name)

    monkeypatch.setattr(av.codec, "Codec", without)
    with pytest.raises(SinkError, match="this PyAV has no libx264"):
        VideoSink(tmp_path / "{stream}.mp4").open()


def test_a_file_is_bare_until_its_first_fragment_is_whole(tmp_path: Path) -> None:
    record(tmp_path, [result(n, n / 25) for n in range(60)])
    whole = (tmp_path / "cam.mp4").read_bytes()
    sizes = [size for _, size in boxes_of(tmp_path / "cam.mp4")]
    first = sum(sizes[:4])  # ftyp, moov, moof, mdat
    cut = tmp_path / "cut.mp4"
    for size in (0, 7, 8, sizes[0], first - sizes[3], first - 1, first, first + 1, len(whole)):
        cut.write_bytes(whole[:size])
        assert is_bare(cut) == (size < first), size
    large = (1).to_bytes(4, "big") + b"mdat" + (24).to_bytes(8, "big") + b"12345678"
    head = whole[: sizes[0]]
    for content, bare in (
        (head + large, False),
        (head + large[:-1], True),
        (head + bytes(100), False),
        (bytes(100), False),
        (b"no box at all", False),
    ):
        cut.write_bytes(content)
        assert is_bare(cut) == bare
