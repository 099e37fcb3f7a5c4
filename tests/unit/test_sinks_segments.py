# SPDX-License-Identifier: Apache-2.0
"""Segments of video: their names, which of them go, and that no frame is lost or shown twice between two of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, SinkError
from pipeline.events import EventKind, StreamEvent
from pipeline.frame import StreamInfo
from pipeline.sinks import VideoSink
from pipeline.sinks.segment_names import SegmentName
from pipeline.sinks.segments import SegmentFiles, Segments
from pipeline.testing import ManualClock
from tests.films import number_of, numbered

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
BEGAN = 1_795_870_000 * SECOND  # 2026-11-28T12:46:40Z
FIRST = Path("out/gate.mp4")
STREAM_NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
SUFFIXES = st.sampled_from(["", ".mp4", ".annotated.mp4", ".m4v"])


def test_a_name_says_when_it_began_and_its_number() -> None:
    assert str(SegmentName(BEGAN + 999_999_999, 17).beside(FIRST)) == "out/gate.2026-11-28T12-46-40Z.17.mp4"


@given(STREAM_NAMES, SUFFIXES, st.integers(0, 253_402_300_799), st.integers(0, SECOND - 1), st.integers(1, 10**30))
def test_every_name_that_is_given_is_known_again(stream: str, suffix: str, at: int, ns: int, number: int) -> None:
    first = Path("out") / f"{stream}{suffix}"
    path = SegmentName(at * SECOND + ns, number).beside(first)
    assert path.parent == first.parent
    assert SegmentName.parse(path.name, first) == SegmentName(at * SECOND, number)


@given(
    st.one_of(
        st.text(max_size=60),
        st.from_regex(r"gate\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.\d{1,3}(\.mp4)?", fullmatch=True),
        st.builds(
            lambda name, at, char: name[:at] + char + name[at:],
            st.just("gate.2026-11-28T12-46-40Z.17.mp4"),
            st.integers(0, 32),
            st.characters(),
        ),
    )
)
def test_a_name_that_is_not_given_is_foreign(name: str) -> None:
    """What is taken for a segment is exactly what the sink would call it."""
    found = SegmentName.parse(name, FIRST)
    assert found is None or found.beside(FIRST).name == name


@given(STREAM_NAMES, STREAM_NAMES, SUFFIXES, SUFFIXES)
def test_no_stream_takes_the_segments_of_another(one: str, other: str, suffix: str, other_suffix: str) -> None:
    first, second = Path(f"{one}{suffix}"), Path(f"{other}{other_suffix}")
    if first != second:
        assert SegmentName.parse(SegmentName(BEGAN, 1).beside(first).name, second) is None


@pytest.mark.parametrize(
    "name",
    [
        "gate.mp4", "gate.2.mp4", "gate.kept.mp4", "gate.2026-11-28T12-46-40Z.mp4", "gate.2026-11-28T12-46-40Z.0.mp4",
        "gate.2026-11-28T12-46-40Z.017.mp4", "gate.2026-11-28T12-46-40Z.17.mp4.bak", "Gate.2026-11-28T12-46-40Z.17.mp4",
        "gate.2026-02-31T12-46-40Z.17.mp4", "gate.2026-11-28T24-46-40Z.17.mp4", "gate.2026-11-28T12-46-60Z.17.mp4",
        "gate.2026-11-28T12-46-40Z.1\N{ARABIC-INDIC DIGIT TWO}.mp4", "gate.2026-11-28T12-46-40Z.17 kept.mp4",
        "gate.2026-11-28T12-46-40Z.17.MP4", f"gate.2026-11-28T12-46-40Z.{'9' * 5000}.mp4",
        "gate.0000-01-01T00-00-00Z.1.mp4",
    ],
)  # fmt: skip
def test_foreign_names(name: str) -> None:
    assert SegmentName.parse(name, FIRST) is None


class Folder:
    """A folder with segments, and what the sink says of them."""

    def __init__(self, folder: Path, **rule: float | None) -> None:
        self.folder = folder
        self.first = folder / "gate.mp4"
        self.removed: list[str] = []
        self.kept: list[SinkError] = []
        self.files = SegmentFiles(
            "gate",
            self.first,
            Segments(**{"max_bytes": None} | rule),  # type: ignore[arg-type]
            lambda path, why: self.removed.append(f"{path.name.split('.')[2]} {why}"),
            self.kept.append,
        )

    def put(self, number: int, size: int = 8192, began_ns: int | None = None) -> Path:
        path = SegmentName(BEGAN + number * SECOND if began_ns is None else began_ns, number).beside(self.first)
        path.write_bytes(size.to_bytes(4, "big") + b"mdat" + b"x" * (size - 8))  # a box that would hold pictures
        return path

    def numbers(self) -> list[int]:
        names = (SegmentName.parse(path.name, self.first) for path in self.folder.iterdir())
        return sorted(name.number for name in names if name is not None)


def test_the_oldest_go_by_number(tmp_path: Path) -> None:
    here = Folder(tmp_path, keep=3)
    for number in (2, 10, 9, 1, 11):
        here.put(number)
    assert here.files.next(BEGAN + 60 * SECOND).name == "gate.2026-11-28T12-47-40Z.12.mp4"
    assert here.numbers() == [9, 10, 11]
    assert here.removed == ["1 keep: 3", "2 keep: 3"]


def test_a_clock_that_was_wrong_does_not_make_new_segments_old(tmp_path: Path) -> None:
    here = Folder(tmp_path, keep=2)
    for number, began_ns in ((1, BEGAN + 9000 * DAY), (2, BEGAN + 9001 * DAY), (3, BEGAN), (4, BEGAN + SECOND)):
        here.put(number, began_ns=began_ns)
    here.files.next(BEGAN + 2 * SECOND)
    assert here.numbers() == [3, 4]


def test_what_they_take_together_is_bounded_while_one_grows(tmp_path: Path) -> None:
    here = Folder(tmp_path, max_bytes=50_000)
    for number in range(1, 8):
        here.put(number, 8192)
    here.files.next(BEGAN)
    assert here.numbers() == [2, 3, 4, 5, 6, 7]
    here.files.grown(848)
    assert here.numbers() == [2, 3, 4, 5, 6, 7]
    here.files.grown(849)
    assert here.numbers() == [3, 4, 5, 6, 7]
    here.files.grown(20_000)
    assert here.numbers() == [5, 6, 7]
    assert here.removed == ["1 max_gb: 5e-05", "2 max_gb: 5e-05", "3 max_gb: 5e-05", "4 max_gb: 5e-05"]


def test_very_small_files_count_as_what_they_take_on_a_disk(tmp_path: Path) -> None:
    here = Folder(tmp_path, max_bytes=40_960)
    for number in range(1, 101):
        here.put(number, 8)
    here.files.next(BEGAN)
    assert here.numbers() == list(range(91, 101))


def test_age_is_counted_from_the_beginning(tmp_path: Path) -> None:
    here = Folder(tmp_path, keep_days=2.0)
    for number, days in ((1, 3.0), (2, 2.1), (3, 2.0), (4, 1.9), (5, 5.0)):
        here.put(number, began_ns=BEGAN - int(days * DAY))
    here.files.remove_old(BEGAN)
    assert here.numbers() == [3, 4]
    assert here.removed == [f"{number} older than keep_days: 2" for number in (1, 2, 5)]
    here.files.remove_old(BEGAN + DAY // 2)
    assert here.numbers() == []


def test_only_files_of_ones_own_are_removed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    treasure = elsewhere / "treasure"
    treasure.write_bytes(b"dear")
    folder = tmp_path / "out"
    folder.mkdir()
    here = Folder(folder, keep=1)
    own = [here.put(number) for number in (5, 6)]
    name = "gate.2026-11-28T12-46-4{}Z.{}.mp4"
    (folder / name.format(1, 1)).symlink_to(treasure)
    (folder / name.format(2, 2)).symlink_to(elsewhere, target_is_directory=True)
    (folder / name.format(3, 3)).symlink_to(folder / "nowhere")
    (folder / name.format(4, 4)).mkdir()
    os.mkfifo(folder / name.format(5, 7))
    foreign = ["gate.mp4", "gate.2.mp4", "gate.thief.2026-11-28T12-46-41Z.1.mp4", "gate-2.2026-11-28T12-46-41Z.1.mp4",
               "gate.2026-11-28T12-46-41Z.01.mp4", "gate.2026-11-28T12-46-41Z.1.mp4.keep"]  # fmt: skip
    for each in foreign:
        (folder / each).write_bytes(b"another's")
    own[0].rename(folder / "gate.burglary.mp4")
    own[0] = here.put(4, began_ns=BEGAN)
    before = {path.name for path in folder.iterdir()}
    assert here.files.next(BEGAN).name.endswith(".8.mp4"), "a number that anything has is not given again"
    assert before - {path.name for path in folder.iterdir()} == {own[0].name}
    assert treasure.read_bytes() == b"dear"
    assert here.kept == []


def test_a_segment_that_somebody_removed_is_no_trouble(tmp_path: Path) -> None:
    here = Folder(tmp_path, max_bytes=50_000)
    gone = [here.put(number) for number in range(1, 7)]
    here.files.next(BEGAN)
    gone[0].unlink()
    here.files.grown(40_000)
    assert here.numbers() == [6]
    assert here.removed == [f"{number} max_gb: 5e-05" for number in (2, 3, 4, 5)]
    assert here.kept == []


def refusing(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path in paths:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)


def test_what_cannot_be_removed_counts_and_newer_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Folder(tmp_path, keep=3)
    paths = [here.put(number) for number in range(1, 6)]
    refusing(monkeypatch, paths[0], paths[2])
    here.files.next(BEGAN)
    assert here.numbers() == [1, 3, 5]
    assert [path.name for path in (paths[0], paths[2]) for error in here.kept if str(path) in str(error)] == [
        paths[0].name,
        paths[2].name,
    ]


def test_nothing_is_written_where_no_room_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Folder(tmp_path, keep=1)
    refusing(monkeypatch, *(here.put(number) for number in range(1, 4)))
    with pytest.raises(SinkError, match=r"cannot remove .*\.1\.mp4: Operation not permitted"):
        here.files.next(BEGAN)
    assert here.numbers() == [1, 2, 3]


@pytest.mark.parametrize("wrong", [{"seconds": 0.0}, {"keep": 0}, {"keep_days": -1.0}, {"max_bytes": None}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="segments: expected"):
        Segments(**wrong)  # type: ignore[arg-type]


def recorded(
    folder: Path, frames: Iterable[int], rule: Segments, *, fps: int = 10, clock: ManualClock | None = None
) -> VideoSink:
    """Frames at their times through a sink, the wall clock going along."""
    clock = clock or ManualClock()
    sink = VideoSink(folder / "{stream}.mp4", mode="append", rotate=rule, clock=clock)
    sink.open()
    sink.begin(StreamInfo("cam", fps=fps))
    for frame in frames:
        sink.write(numbered(frame, frame / fps, wall_ns=clock.wall_ns()))
        clock.advance(SECOND // fps)
    sink.close()
    return sink


def segments(folder: Path) -> list[tuple[int, list[int], list[float]]]:
    """Of each segment by its number: the numbers of its frames, and when it shows them."""
    found = []
    for path in folder.iterdir():
        name = SegmentName.parse(path.name, folder / "cam.mp4")
        assert name is not None, path
        with av.open(str(path)) as film:
            assert next(film.demux(video=0)).is_keyframe
            film.seek(0)
            frames = list(film.decode(video=0))
        shown = [number_of(frame.to_ndarray(format="gray")) for frame in frames]
        found.append((name.number, shown, [float(frame.pts * frame.time_base) for frame in frames]))
    return sorted(found)


def test_every_frame_is_in_one_segment(tmp_path: Path) -> None:
    recorded(tmp_path, range(75), Segments(seconds=2.0))
    found = segments(tmp_path)
    assert [number for number, _, _ in found] == [1, 2, 3, 4]
    assert [shown for _, shown, _ in found] == [list(range(at, min(at + 20, 75))) for at in (0, 20, 40, 60)]
    for _, shown, times in found:
        assert times == pytest.approx([n / 10 for n in range(len(shown))], abs=1e-4)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[1] == "cam.2023-11-14T22-13-22Z.2.mp4", "two seconds after the first, by the wall clock of its frame"


def test_a_bound_holds_over_restarts(tmp_path: Path) -> None:
    (tmp_path / "cam.2026-11-28T12-46-40Z.kept.mp4").write_bytes(b"renamed")
    clock = ManualClock()
    for run in range(4):
        sink = recorded(tmp_path, range(run * 50, run * 50 + 50), Segments(seconds=2.0, keep=2), clock=clock)
        assert sink.segments_removed == (0 if run == 0 else 3)
    (tmp_path / "cam.2026-11-28T12-46-40Z.kept.mp4").unlink()
    found = segments(tmp_path)
    assert [number for number, _, _ in found] == [10, 11, 12], "two, and the one that was being written"
    assert [n for _, shown, _ in found for n in shown] == list(range(150, 200))


def test_a_segment_ends_at_a_tenth_of_what_is_kept(tmp_path: Path) -> None:
    rule = Segments(seconds=3600.0, max_bytes=60_000)
    sink = VideoSink(tmp_path / "{stream}.mp4", rotate=rule, crf=1, clock=ManualClock())
    sink.open()
    sink.begin(StreamInfo("cam", fps=10))
    most = 0
    for frame in range(1000):
        sink.write(numbered(frame, frame / 10))
        most = max(most, sum(path.stat().st_size for path in tmp_path.iterdir()))
    sink.close()
    assert sink.segments_removed
    assert 45_000 < most <= 60_000
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 10_000, "a tenth, and the fragment under way"
    shown = [n for _, numbers, _ in segments(tmp_path) for n in numbers]
    assert shown == list(range(shown[0], 1000)), "those that are left are the newest, without a gap"


def test_another_size_begins_another_segment(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "{stream}.mp4", rotate=Segments(seconds=60.0), clock=ManualClock())
    sink.open()
    for frame in range(9):
        sink.write(numbered(frame, frame / 10, width=96 if frame < 5 else 192))
    sink.close()
    assert [shown for _, shown, _ in segments(tmp_path)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_camera_that_was_away_for_long_comes_back_in_a_segment_of_its_own(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "{stream}.mp4", rotate=Segments(seconds=86_400.0), clock=ManualClock())
    sink.open()
    for frame, pts in enumerate((5.0, 5.1, 600.0, 600.1, 4300.0, 4300.1, 0.0, 0.1)):
        sink.write(numbered(frame, pts))
    sink.close()
    found = segments(tmp_path)
    assert [shown for _, shown, _ in found] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found[0][2] == pytest.approx([0, 0.1, 595, 595.1], abs=1e-4), "a gap of minutes is shown as long as it was"
    assert found[1][2] == pytest.approx([0, 0.1, 0.2, 0.3], abs=1e-4)


def test_old_segments_of_a_camera_that_is_away_go_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    sink = VideoSink(tmp_path / "{stream}.mp4", rotate=Segments(keep_days=1.0, max_bytes=None), clock=clock)
    sink.open()
    old = SegmentName(clock.wall_ns() - DAY + 90 * SECOND, 3).beside(tmp_path / "away.mp4")
    old.write_bytes(b"x")
    sink.begin(StreamInfo("away"))
    with caplog.at_level(logging.INFO):
        for minute in range(4):
            sink.write(numbered(minute, 60.0 * minute))
            assert old.exists() == (minute < 2)
            clock.advance(60 * SECOND)
    sink.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"away: segment removed: {old} (older than keep_days: 1)"
    ]


def test_removals_are_told_less_and_less_often(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        sink = recorded(tmp_path, range(0, 1500, 10), Segments(seconds=1.0, keep=1))
    assert sink.segments_removed == 148
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == f"cam: segment removed: {tmp_path}/cam.2023-11-14T22-13-20Z.1.mp4 (keep: 1)"
    assert len(told) <= 5, "after 0, 1, 3, 7 and 15 seconds"
    assert all(record.levelno == logging.INFO for record in caplog.records)
    assert told[-1].endswith(" more of this kind)")


@pytest.mark.parametrize("link", [True, False])
def test_a_name_that_is_taken_meanwhile_is_not_written_into(
    link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"")  # which looks like a segment that was begun a moment ago
    taken = tmp_path / "cam.2026-11-28T12-46-40Z.1.mp4"
    taken.symlink_to(treasure) if link else taken.touch()
    monkeypatch.setattr(SegmentFiles, "next", lambda self, wall_ns: taken)
    sink = VideoSink(tmp_path / "{stream}.mp4", rotate=Segments())
    sink.open()
    with pytest.raises(SinkError, match=r"cannot open .*Z\.1\.mp4: File exists"):
        sink.write(numbered(0, 0.0))
    sink.close()
    assert taken.is_symlink() == link
    assert taken.read_bytes() == treasure.read_bytes() == b""


def test_what_a_killed_run_left_without_a_picture_takes_no_place(tmp_path: Path) -> None:
    clock = ManualClock()
    recorded(tmp_path, range(40), Segments(seconds=2.0, keep=2), clock=clock)
    whole = sorted(tmp_path.iterdir())
    head = SegmentName(clock.wall_ns(), 3).beside(tmp_path / "cam.mp4")
    head.write_bytes(whole[0].read_bytes()[:782])
    sink = recorded(tmp_path, range(40, 45), Segments(seconds=2.0, keep=2), clock=clock)
    assert sink.segments_removed == 0
    assert [shown for _, shown, _ in segments(tmp_path)] == [list(range(20)), list(range(20, 40)), list(range(40, 45))]


def gone(kind: EventKind = "down", stream: str = "cam") -> StreamEvent:
    return StreamEvent(stream, kind, "backoff", BEGAN)


@pytest.mark.parametrize(
    ("kind", "frames", "whole"),
    [
        ("down", 20, True),
        ("stalled", 20, True),
        ("paused", 20, True),
        ("down", 19, False),
        ("discontinuity", 20, False),
    ],
)
def test_a_camera_that_goes_away_ends_its_segment_unless_it_is_short(
    tmp_path: Path, kind: EventKind, frames: int, whole: bool
) -> None:
    """What it showed last is on the disk at once, while it is away."""
    sink = VideoSink(tmp_path / "{stream}.mp4", rotate=Segments(seconds=3.8, keep=1), clock=ManualClock())
    sink.open()
    sink.begin(StreamInfo("cam", fps=10))
    for frame in range(frames):
        sink.write(numbered(frame, frame / 10))
    sink.event(gone(kind))
    sink.event(gone(kind))
    sink.event(gone(kind, "never-seen"))
    if whole:
        assert [shown for _, shown, _ in segments(tmp_path)] == [list(range(frames))]
    sink.write(numbered(frames, 9.0))
    sink.close()
    expected = list(range(frames + 1))
    assert [n for _, shown, _ in segments(tmp_path) for n in shown] == expected
    assert len(list(tmp_path.iterdir())) == 2, "it came back after more than a segment"


def test_a_replay_is_told_no_events(tmp_path: Path) -> None:
    assert not VideoSink(tmp_path / "{stream}.mp4").wants_events
    assert VideoSink(tmp_path / "{stream}.mp4", rotate=Segments()).wants_events


def test_the_last_segment_of_a_camera_that_is_away_grows_too_old_as_well(tmp_path: Path) -> None:
    clock = ManualClock()
    sink = VideoSink(
        tmp_path / "{stream}.mp4", rotate=Segments(seconds=60.0, keep_days=1.0, max_bytes=None), clock=clock
    )
    sink.open()
    for frame in range(40):
        sink.write(numbered(frame, frame, stream="away"))
    sink.event(gone(stream="away"))
    for _ in range(2):
        assert len(list(tmp_path.glob("away.*"))) == 1
        clock.advance(DAY // 2 + SECOND)
        sink.write(numbered(0, clock.now_ns() / SECOND))
    assert list(tmp_path.glob("away.*")) == []
    sink.close()


def test_a_folder_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out" / "{stream}.mp4", rotate=Segments(seconds=1.0, keep=9), clock=ManualClock())
    sink.open()
    for frame in range(40):
        if frame == 15:
            (tmp_path / "out").rename(tmp_path / "archive")
        sink.write(numbered(frame, frame / 10))
    sink.close()
    assert [shown for _, shown, _ in segments(tmp_path / "archive")] == [list(range(10)), list(range(10, 20))]
    assert [shown for _, shown, _ in segments(tmp_path / "out")] == [list(range(20, 30)), list(range(30, 40))]
