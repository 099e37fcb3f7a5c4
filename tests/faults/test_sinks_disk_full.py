# SPDX-License-Identifier: Apache-2.0
"""Full disks and limits: the sink says so, no torn record stays, and it goes on when there is space again."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import SinkError
from pipeline.frame import Detections, Picture, Result, StreamInfo
from pipeline.protocols import Sink
from pipeline.sinks import CocoSink, CsvSink, JsonlSink, MotSink, VideoSink
from pipeline.sinks.segment_names import SegmentName
from pipeline.sinks.segments import Segments
from tests.faults.disks import files_up_to, fill, in_child, mount

LABELS = {0: "person"}
RNG = np.random.default_rng(3)
NOISE = RNG.integers(0, 255, (288, 352), np.uint8)
CHROMA = RNG.integers(90, 160, (144, 176), np.uint8)


def result(frame: int, stream: str = "cam") -> Result:
    found = Detections(np.full((5, 4), 9.25, np.float32), np.full(5, 0.5, np.float32), np.zeros(5, np.int64))
    picture = Picture((np.roll(NOISE, 7 * frame, 0), CHROMA, CHROMA), "yuv")
    return Result(stream, frame, frame / 10, None, 352, 288, found, LABELS, picture=picture)


def attempts(sink: Sink, frames: range) -> list[int]:
    """The frames that the sink kept."""
    kept, complaints = [], set()
    for frame in frames:
        try:
            sink.write(result(frame))
            kept.append(frame)
        except SinkError as error:
            complaints.add(str(error))
    assert all("cannot write" in complaint and "\n" not in complaint for complaint in complaints), complaints
    return kept


def filled(sink: VideoSink) -> int:
    """Write frames until the file is as large as it may be; the number of the one that failed."""
    with files_up_to(600_000):
        for frame in range(200):
            if not attempts(sink, range(frame, frame + 1)):
                return frame
    raise AssertionError("200 frames took no 600 kB")


@pytest.mark.parametrize("limit", [1000, 1234, 4096, 9999])
def test_jsonl_resumes_without_a_torn_record(tmp_path: Path, limit: int) -> None:
    def body() -> None:
        sink = JsonlSink(tmp_path / "{stream}.jsonl", fsync="interval")
        sink.open()
        sink.begin(StreamInfo("cam"))
        with files_up_to(limit):
            kept = attempts(sink, range(30))
            path = tmp_path / "cam.jsonl"
            assert kept == list(range(len(kept)))
            assert len(kept) < 30
            assert path.read_bytes().endswith(b"}\n"), "nothing torn, even before the next write"
        kept += attempts(sink, range(30, 40))
        sink.end("cam")
        sink.close()
        assert kept[-10:] == list(range(30, 40))
        assert [json.loads(line)["frame"] for line in path.read_bytes().splitlines()] == kept

    in_child(body)


def test_csv_and_mot_resume_as_well(tmp_path: Path) -> None:
    def body() -> None:
        for sink in (CsvSink(tmp_path / "{stream}.csv"), MotSink(tmp_path / "{stream}.txt")):
            sink.open()
            with files_up_to(1500):
                kept = attempts(sink, range(20))
            assert len(kept) < 20
            kept += attempts(sink, range(20, 23))
            sink.close()
            path = next(tmp_path.iterdir())
            rows = [line.split(",") for line in path.read_text().splitlines()]
            rows = rows[1:] if rows[0][0] == "frame" else rows
            offset = int(path.suffix == ".txt")
            assert [int(row[0]) - offset for row in rows] == [frame for frame in kept for _ in range(5)]
            assert {len(row) for row in rows} == {10}
            path.unlink()

    in_child(body)


def test_a_header_that_did_not_fit_comes_later(tmp_path: Path) -> None:
    def body() -> None:
        sink = CsvSink(tmp_path / "{stream}.csv")
        sink.open()
        with files_up_to(20):
            with pytest.raises(SinkError, match=r"cannot write .*cam\.csv: File too large"):
                sink.begin(StreamInfo("cam"))
            with pytest.raises(SinkError, match="File too large"):
                sink.write(result(0))
        sink.write(result(1))
        sink.close()
        lines = (tmp_path / "cam.csv").read_text().splitlines()
        assert (lines[0].split(",")[0], lines[1].split(",")[0], len(lines)) == ("frame", "1", 6)

    in_child(body)


def test_a_full_device(tmp_path: Path) -> None:
    (tmp_path / "cam.jsonl").symlink_to("/dev/full")
    for sink in (JsonlSink(tmp_path / "{stream}.jsonl", mode="append"), JsonlSink(tmp_path / "{stream}.jsonl")):
        sink.open()
        sink.begin(StreamInfo("cam"))
        for frame in range(3):
            with pytest.raises(SinkError, match=r"cannot write .*/cam\.jsonl: No space left on device \(results"):
                sink.write(result(frame))
        sink.begin(StreamInfo("other"))
        sink.write(result(0, "other"))  # another stream's file is another matter
        sink.close()
        assert len((tmp_path / "other.jsonl").read_bytes().splitlines()) == 1


def test_coco_says_that_it_could_not_be_finished_and_leaves_no_half_file(tmp_path: Path) -> None:
    def body() -> None:
        sink = CocoSink(tmp_path)
        sink.open()
        sink.begin(StreamInfo("cam"))
        assert attempts(sink, range(50)) == list(range(50))
        with files_up_to(3000), pytest.raises(SinkError, match=r"cannot write .*/coco\.json: File too large"):
            sink.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["coco.parts"]

    in_child(body)


def test_coco_goes_on_after_a_full_disk(tmp_path: Path) -> None:
    def body() -> None:
        sink = CocoSink(tmp_path)
        sink.open()
        sink.begin(StreamInfo("cam"))
        with files_up_to(2000):
            kept = attempts(sink, range(50))
        assert 0 < len(kept) < 50
        kept += attempts(sink, range(50, 53))
        sink.close()
        images = json.loads((tmp_path / "coco_images.json").read_bytes())["images"]
        assert [image["frame"] for image in images] == kept
        assert len(json.loads((tmp_path / "coco.json").read_bytes())) == 5 * len(kept)

    in_child(body)


def test_a_video_goes_on_in_its_next_part(tmp_path: Path) -> None:
    def body() -> None:
        sink = VideoSink(tmp_path / "{stream}.mp4")
        sink.open()
        sink.begin(StreamInfo("cam", fps=10))
        frame = filled(sink)
        assert frame > 20
        before = len(os.listdir("/proc/self/fd"))
        assert attempts(sink, range(frame + 1, frame + 25)) == list(range(frame + 1, frame + 25))
        assert len(os.listdir("/proc/self/fd")) == before + 1
        sink.close()
        with av.open(str(tmp_path / "cam.2.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == 24
        with av.open(str(tmp_path / "cam.mp4")) as container:
            whole = 0
            for packet in container.demux(video=0):
                whole += bool(packet.size)
        assert whole >= frame - 10 - 5 - 2

    in_child(body)


def test_segments_go_on_after_a_full_disk(tmp_path: Path) -> None:
    def body() -> None:
        sink = VideoSink(tmp_path / "{stream}.mp4", mode="append", rotate=Segments(keep=5))
        sink.open()
        sink.begin(StreamInfo("cam", fps=10))
        frame = filled(sink)
        kept = attempts(sink, range(frame + 1, frame + 25))
        sink.close()
        torn, whole = sorted(tmp_path.iterdir(), key=lambda path: int(path.suffixes[-2][1:]))
        assert kept == list(range(frame + 1, frame + 25))
        with av.open(str(whole)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 24
        with suppress(av.error.InvalidDataError), av.open(str(torn)) as container:
            played = 0
            for _ in container.decode(video=0):
                played += 1
        assert played >= frame - 10 - 5 - 2

    in_child(body)


@pytest.mark.parametrize("limit", [1, 600, 3000])
@pytest.mark.parametrize("rotate", [None, Segments(keep=5)])
def test_no_files_without_pictures_pile_up_where_only_their_heads_fit(
    tmp_path: Path, limit: int, rotate: Segments | None
) -> None:
    """And the film that is there stays: a full disk is no reason to remove more than the limits say."""

    def body() -> None:
        old = SegmentName(1_795_870_000 * 10**9, 1).beside(tmp_path / "cam.mp4")
        old.write_bytes((100).to_bytes(4, "big") + b"mdat" + b"x" * 92)
        sink = VideoSink(tmp_path / "{stream}.mp4", mode="append", rotate=rotate)
        sink.open()
        sink.begin(StreamInfo("cam", fps=10))
        with files_up_to(limit):
            for frame in range(100):
                with suppress(SinkError):
                    sink.write(result(frame))
                assert len(list(tmp_path.iterdir())) <= 2, "the old one, and one that is being tried"
            with suppress(SinkError):
                sink.end("cam")
        assert [path.name for path in tmp_path.iterdir()] == [old.name]
        sink.begin(StreamInfo("cam", fps=10))
        assert attempts(sink, range(100, 103)) == [100, 101, 102]
        sink.close()
        assert len(list(tmp_path.iterdir())) == 2

    in_child(body)


def test_no_files_pile_up_while_the_disk_stays_full(tmp_path: Path) -> None:
    (tmp_path / "cam.mp4").symlink_to("/dev/full")
    sink = VideoSink(tmp_path / "{stream}.mp4", mode="append")
    sink.open()
    sink.begin(StreamInfo("cam"))
    before = len(os.listdir("/proc/self/fd"))
    for frame in range(5):
        with pytest.raises(SinkError, match=r"cannot write .*/cam\.mp4: No space left on device \(results are lost"):
            sink.write(result(frame))
    sink.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["cam.mp4"]


def test_a_reader_that_goes_away_is_no_end_of_the_sink(tmp_path: Path) -> None:
    fifo = tmp_path / "cam.jsonl"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    sink = JsonlSink(tmp_path / "{stream}.jsonl", mode="append")
    sink.open()
    sink.begin(StreamInfo("cam"))
    sink.write(result(0))
    assert json.loads(os.read(reading, 65536))["frame"] == 0
    os.close(reading)
    with pytest.raises(SinkError, match=r"cannot write .*/cam\.jsonl: Broken pipe"):
        sink.write(result(1))
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    sink.write(result(2))
    assert json.loads(os.read(reading, 65536))["frame"] == 2
    os.close(reading)
    sink.close()


def test_jsonl_on_a_file_system_without_room(tmp_path: Path) -> None:
    def body() -> None:
        mount(tmp_path / "disk", 64)
        sink = JsonlSink(tmp_path / "disk" / "{stream}.jsonl")
        sink.open()
        sink.begin(StreamInfo("cam"))
        assert attempts(sink, range(3)) == [0, 1, 2]
        filler = fill(tmp_path / "disk")
        kept = attempts(sink, range(3, 30))
        assert kept == list(range(3, 3 + len(kept))), "what its last block takes"
        assert len(kept) < 27
        with pytest.raises(SinkError, match=r"No space left on device \(results are lost until there is room again\)"):
            sink.write(result(30))
        filler.unlink()
        assert attempts(sink, range(31, 34)) == [31, 32, 33]
        sink.close()
        lines = (tmp_path / "disk" / "cam.jsonl").read_bytes().splitlines()
        assert [json.loads(line)["frame"] for line in lines] == [0, 1, 2, *kept, 31, 32, 33]

    in_child(body)


def old_segments(folder: Path, size: int) -> list[str]:
    """Three of a camera that is no longer read, the oldest first."""
    names = [f"gone.2020-01-01T0{number}-00-00Z.{number}.mp4" for number in (5, 6, 7)]
    for name in names:
        (folder / name).write_bytes(bytes(size))
    return names


def test_a_limit_for_all_streams_makes_room_on_a_file_system_that_is_full(tmp_path: Path) -> None:
    """More is there than the limit allows, as after a restart with a lower one: the oldest goes before the first write,
    and writing goes on though somebody else has the rest."""

    def body() -> None:
        disk = tmp_path / "disk"
        mount(disk, 4000)
        old = old_segments(disk, 900_000)
        filler = fill(disk)
        assert os.statvfs(disk).f_bavail == 0
        sink = VideoSink(disk / "{stream}.mp4", mode="append", rotate=Segments(seconds=1, max_total_bytes=2_000_000))
        sink.open()
        sink.begin(StreamInfo("cam", fps=10))
        assert attempts(sink, range(1)) == [0]
        assert sorted(path.name for path in disk.glob("gone.*")) == old[1:]
        assert attempts(sink, range(1, 100)) == list(range(1, 100))
        assert sum(path.stat().st_size for path in disk.glob("*.mp4")) <= 2_000_000
        sink.close()
        assert not list(disk.glob("gone.*")), "all of them were older than the first of this camera"
        assert filler.exists()

    in_child(body)


def test_within_its_limit_a_full_file_system_costs_no_segment(tmp_path: Path) -> None:
    def body() -> None:
        disk = tmp_path / "disk"
        mount(disk, 2000)
        old = old_segments(disk, 300_000)
        sink = VideoSink(disk / "{stream}.mp4", mode="append", rotate=Segments(max_total_bytes=50_000_000))
        sink.open()
        sink.begin(StreamInfo("cam", fps=10))
        kept = attempts(sink, range(200))
        assert 10 < len(kept) < 190
        assert sorted(path.name for path in disk.glob("gone.*")) == old
        (disk / old[0]).unlink()
        assert attempts(sink, range(200, 210)) == list(range(200, 210))
        sink.close()
        with av.open(str(max(disk.glob("cam.*"), key=lambda path: int(path.suffixes[-2][1:])))) as container:
            assert sum(1 for _ in container.decode(video=0)) == 10

    in_child(body)
