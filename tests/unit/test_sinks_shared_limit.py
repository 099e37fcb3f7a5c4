# SPDX-License-Identifier: Apache-2.0
"""What segments of all streams may take together: the oldest goes, whosever it is, and nothing but segments."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SinkError
from pipeline.frame import StreamInfo
from pipeline.sinks import VideoSink
from pipeline.sinks.gallery import Gallery
from pipeline.sinks.paths import StreamPaths
from pipeline.sinks.segment_names import SegmentName
from pipeline.sinks.segments import SegmentFiles, Segments
from pipeline.sinks.shared_limit import SharedLimit
from pipeline.testing import ManualClock
from tests.films import numbered

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
SIZE = 8192


class Archive:
    """A folder of many streams, and what is removed from it. Its clock stands at 1000 s after ``began``."""

    def __init__(self, folder: Path, most: int, template: str = "{stream}.mp4") -> None:
        self.clock = ManualClock()
        self.now = self.clock.wall_ns() // SECOND
        self.paths = StreamPaths(folder / template)
        self.removed: list[str] = []
        self.kept: list[str] = []
        self.limit = SharedLimit(
            self.paths,
            most,
            lambda stream, path, why: self.removed.append(path.name.split(".")[0] + "." + path.name.split(".")[2]),
            lambda stream, error: self.kept.append(str(error)),
            self.clock,
        )

    def put(self, stream: str, number: int, ago_s: int, size: int = SIZE) -> Path:
        """A finished segment of an earlier run, which began so many seconds ago."""
        path = SegmentName((self.now - ago_s) * SECOND, number).beside(self.paths.of(stream))
        path.write_bytes(b"x" * size)
        return path

    def stream(self, name: str, keep: int | None = None) -> SegmentFiles:
        rule = Segments(keep=keep, max_bytes=None, max_total_bytes=10**12)
        return SegmentFiles(name, self.paths.of(name), rule, lambda path, why: None, lambda error: None, self.limit)


def test_the_oldest_of_all_streams_goes_first(tmp_path: Path) -> None:
    """Also those of streams that nobody writes any more; numbers of different streams say nothing of each other."""
    archive = Archive(tmp_path, 3 * SIZE)
    for stream, number, ago_s in (("gate", 900, 50), ("gate", 901, 20), ("lobby", 1, 40), ("lobby", 2, 10),
                                  ("gone", 7, 60), ("gone", 8, 30)):  # fmt: skip
        archive.put(stream, number, ago_s)
    archive.stream("gate").next(archive.clock.wall_ns())
    assert archive.removed == ["gone.7", "gate.900", "lobby.1"]
    assert archive.kept == []


def test_what_is_being_written_counts_and_stays(tmp_path: Path) -> None:
    archive = Archive(tmp_path, 4 * SIZE)
    old, new = archive.stream("old"), archive.stream("new")
    first = old.next(archive.clock.wall_ns() - 500 * SECOND)
    first.write_bytes(b"x" * SIZE)
    old.grown(SIZE)
    for number in (1, 2):
        archive.put("new", number, 30 - number)
    archive.clock.advance(61 * SECOND)  # the folder is read again
    second = new.next(archive.clock.wall_ns())
    second.write_bytes(b"x" * 4 * SIZE)
    new.grown(SIZE)
    assert archive.removed == []
    new.grown(SIZE + 1)
    assert archive.removed == ["new.1"]
    new.grown(4 * SIZE)
    assert archive.removed == ["new.1", "new.2"], "there is nothing else, and the limit waits for them to be finished"
    assert first.exists()
    assert second.exists()
    old.finished()
    new.grown(4 * SIZE)
    assert archive.removed[2:] == ["old.1"]
    assert not first.exists()


def test_what_another_process_writes_is_not_removed(tmp_path: Path) -> None:
    archive = Archive(tmp_path, 2 * SIZE)
    theirs = archive.put("theirs", 1, 90)
    for number in range(1, 4):
        archive.put("ours", number, 50 - number)
    with open(theirs, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        files = archive.stream("ours")
        files.next(archive.clock.wall_ns())
        assert archive.removed == ["ours.1", "ours.2"], "theirs counts"
    archive.put("ours", 4, 0)
    archive.clock.advance(61 * SECOND)
    files.next(archive.clock.wall_ns())
    assert archive.removed[2:] == ["theirs.1"], "it was finished meanwhile"
    assert archive.kept == []


def test_what_another_process_writes_is_measured_again(tmp_path: Path) -> None:
    archive = Archive(tmp_path, 5 * SIZE)
    for number in (1, 2):
        archive.put("theirs", number, 92 - number)
        archive.put("ours", number, 82 - number)
    files = archive.stream("ours")
    files.next(archive.clock.wall_ns())
    archive.put("theirs", 2, 90, 3 * SIZE)
    archive.clock.advance(61 * SECOND)
    files.next(archive.clock.wall_ns())
    assert archive.removed == ["theirs.1"]


def test_a_segment_ends_at_a_tenth_of_a_streams_part(tmp_path: Path) -> None:
    """Else those that are being written might be more than the limit, and nothing could be removed."""
    rule = Segments(seconds=3600.0, max_bytes=None, max_total_bytes=100_000)
    sink = VideoSink(tmp_path / "{stream}.mp4", rotate=rule, crf=1, clock=ManualClock())
    sink.open()
    streams = ("gate", "lobby")
    for stream in streams:
        sink.begin(StreamInfo(stream, fps=10))
    for frame in range(1000):
        for stream in streams:
            sink.write(numbered(frame, frame / 10, stream=stream))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100_000
    sink.close()
    sizes = sorted(path.stat().st_size for path in tmp_path.iterdir())
    assert sink.segments_removed
    assert sum(sizes) > 80_000, "what goes at once is little"
    assert sizes[-1] < 5000 + 4000, "a tenth of the half, and the fragment under way"


def test_a_segment_is_locked_while_it_is_written(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "{stream}.mp4", rotate=Segments(), clock=ManualClock())
    sink.open()
    sink.write(numbered(0, 0.0))
    (path,) = tmp_path.iterdir()
    with open(path, "rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        sink.close()
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_a_file_system_without_locks_is_no_reason_to_keep_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    archive = Archive(tmp_path, SIZE)
    for number in (1, 2, 3):
        archive.put("gate", number, 50 - number)
    archive.stream("gate").next(archive.clock.wall_ns())
    assert archive.removed == ["gate.1", "gate.2"]


def test_equally_old_ones_go_by_number_and_name(tmp_path: Path) -> None:
    archive = Archive(tmp_path, 0)
    for stream, number in (("b", 2), ("a", 2), ("c", 1), ("a", 10)):
        archive.put(stream, number, 40)
    archive.stream("a").next(archive.clock.wall_ns())
    assert archive.removed == ["c.1", "a.2", "b.2", "a.10"]


@pytest.mark.parametrize("wrong_s", [-50 * 365 * 86_400, 9 * 365 * 86_400], ids=["in 1970", "years ahead"])
def test_a_clock_that_was_wrong_for_a_moment_decides_nothing(tmp_path: Path, wrong_s: int) -> None:
    """Of two cameras the same is kept, although one of them began a segment in that moment."""
    archive = Archive(tmp_path, 3 * SIZE)
    for number in range(1, 7):
        ago_s = 700 - 100 * number
        archive.put("calm", number, ago_s - 1)
        archive.put("struck", number, ago_s - wrong_s if number == 3 else ago_s)
    archive.stream("calm").next(archive.clock.wall_ns())
    expected = [f"{stream}.{number}" for number in range(1, 6) for stream in ("struck", "calm")][:9]
    assert sorted(archive.removed) == sorted(expected)
    assert [name for name in archive.removed if name.startswith("struck")] == [f"struck.{n}" for n in range(1, 6)]


def test_while_the_clock_is_wrong_what_names_say_of_each_other_decides(tmp_path: Path) -> None:
    """A machine that begins in 1970 takes every name for the future."""
    archive = Archive(tmp_path, 2 * SIZE)
    for stream, number, ago_s in (("gate", 1, 40), ("lobby", 500, 50), ("gate", 2, 20), ("lobby", 501, 30)):
        archive.put(stream, number, ago_s - 50 * 365 * 86_400)
    archive.stream("gate").next(archive.clock.wall_ns())
    assert archive.removed == ["lobby.500", "gate.1"]


def test_only_segments_are_removed_and_counted(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "out", tmp_path / "treasure"
    folder.mkdir()
    archive = Archive(folder, SIZE)
    own = [archive.put("gate", 5, 50), archive.put("gone", 6, 40)]
    elsewhere.write_bytes(b"d" * 100_000)
    name = "gone.2020-11-28T12-46-4{}Z.{}.mp4"
    (folder / name.format(1, 1)).symlink_to(elsewhere)
    (folder / name.format(2, 2)).mkdir()
    os.mkfifo(folder / name.format(3, 3))
    at = "2020-11-28T12-46-41Z"
    foreign = [
        "gate.mp4", "gate.2.mp4", "notes.txt", f"gone.{at}.01.mp4", f"gone.{at}.1.mp4.bak", f"gone.{at}.1.mkv",
        "gone.2020-02-31T12-46-41Z.1.mp4", f"my film.{at}.1.mp4", f"{'n' * 65}.{at}.1.mp4", f"gone.kept.{at}.1.mp4",
        f".{at}.1.mp4", f"gone.{at}.mp4",
    ]  # fmt: skip
    for each in foreign:
        (folder / each).write_bytes(b"f" * 100_000)
    (folder / "archive").mkdir()
    (folder / "archive" / "gate.2020-11-28T12-46-41Z.1.mp4").write_bytes(b"moved away")
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    archive.stream("gate").next(archive.clock.wall_ns())
    assert before - {path.relative_to(folder) for path in folder.rglob("*")} == {own[0].relative_to(folder)}
    assert elsewhere.exists()
    assert archive.kept == []


def test_folders_of_streams_are_looked_into_unless_they_are_links(tmp_path: Path) -> None:
    folder, other = tmp_path / "out", tmp_path / "other disk"
    archive = Archive(folder, 2 * SIZE, "{stream}/cam-{stream}.mp4")
    for stream in ("gate", "gone"):
        archive.put(stream, 1, 90)
    other.mkdir()
    for stream in ("linked", "strange"):
        archive.put(stream, 1, 95)
        (folder / stream).rename(other / stream)
        (folder / stream).symlink_to(other / stream, target_is_directory=True)
    mixed = folder / "gate" / "cam-gone.2020-11-28T12-46-41Z.1.mp4"
    mixed.write_bytes(b"x" * SIZE)
    (folder / "linked.2020-11-28T12-46-41Z.1.mp4").write_bytes(b"not in a folder of its own")
    archive.stream("linked").next(archive.clock.wall_ns())
    assert archive.removed == ["cam-linked.1"], "a stream that is written may have its folder elsewhere"
    assert mixed.exists()


@pytest.mark.parametrize("template", ["{stream}.mp4", "./out/../{stream}.mp4", "{stream}/film.mp4"])
def test_a_folder_may_be_named_from_here(tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    archive = Archive(Path(), 2 * SIZE, template)
    for number in (1, 2, 3):
        archive.put("gate", number, 50 - number)
    files = archive.stream("gate")
    growing = files.next(archive.clock.wall_ns())
    growing.write_bytes(b"x" * SIZE)
    files.grown(SIZE)
    archive.clock.advance(61 * SECOND)
    files.grown(SIZE)
    assert [name.split(".")[1] for name in archive.removed] == ["1", "2"]
    assert growing.exists()


def test_a_template_without_a_stream_has_one_stream(tmp_path: Path) -> None:
    archive = Archive(tmp_path, SIZE, "film.mp4")
    for number in (1, 2, 3):
        archive.put("gate", number, 50 - number)
    (tmp_path / "gate.2020-11-28T12-46-41Z.1.mp4").write_bytes(b"another's")
    archive.stream("gate").next(archive.clock.wall_ns())
    assert archive.removed == ["film.1", "film.2"]


NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
TEMPLATES = st.sampled_from(
    [
        "{stream}.mp4", "cam_{stream}-x.a.mp4", "{stream}", "x.{stream}", "{stream}-{stream}.mp4", "{stream}/film.mp4",
        "a{stream}/deep/{stream}.mp4", "{stream}.{stream}", ".{stream}",
    ]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(NAMES, TEMPLATES)
def test_segments_of_any_stream_are_found_again(
    tmp_path_factory: pytest.TempPathFactory, name: str, template: str
) -> None:
    folder = tmp_path_factory.mktemp("gallery")
    paths = StreamPaths(folder / template)
    made = SegmentName(1_795_870_000 * SECOND, 7)
    made.beside(paths.of(name)).write_bytes(b"x")
    found = Gallery(paths).look(frozenset(), lambda stream, error: pytest.fail(str(error)))
    assert [(stream, [one.name for one in each]) for stream, each in found.items()] == [(name, [made])]


def test_what_cannot_be_removed_counts_until_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(tmp_path, 2 * SIZE)
    paths = [archive.put("gate", number, 50 - number) for number in (1, 2, 3, 4)]
    with stuck(monkeypatch, *paths[:1]):
        archive.stream("gate").next(archive.clock.wall_ns())
    assert archive.removed == ["gate.2", "gate.3"]
    assert archive.kept == [
        f"cannot remove {paths[0]}: Operation not permitted (choose a folder that this user may write to)"
    ]
    more = archive.put("gate", 5, 1)
    archive.clock.advance(61 * SECOND)
    files = archive.stream("gate")
    with stuck(monkeypatch, paths[0], paths[3], more):
        for _ in range(2):
            with pytest.raises(SinkError, match=r"cannot remove .*\.1\.mp4"):
                files.next(archive.clock.wall_ns())
        assert len(archive.kept) == 4, "it is tried again once a minute"
    archive.clock.advance(61 * SECOND)
    files.next(archive.clock.wall_ns())
    assert archive.removed[2:] == ["gate.1"]


@contextmanager
def stuck(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> Iterator[None]:
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path in paths:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        yield


def test_the_folder_is_read_once_a_minute_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = Gallery.look
    monkeypatch.setattr(Gallery, "look", lambda self, *given: looks.append(1) or look(self, *given))
    rule = Segments(seconds=1.0, max_bytes=None, max_total_bytes=40_960)
    clock = ManualClock()
    sink = VideoSink(tmp_path / "{stream}.mp4", rotate=rule, clock=clock)
    sink.open()
    for frame in range(1200):
        sink.write(numbered(frame, frame / 10, wall_ns=clock.wall_ns(), stream=f"cam{frame % 2}"))
        clock.advance(SECOND // 10)
    sink.close()
    assert sink.segments_removed is not None
    assert sink.segments_removed > 200
    assert len(looks) == 2, "at 0 and 60 s, of 120"


def test_what_was_removed_by_hand_or_for_another_limit_makes_room(tmp_path: Path) -> None:
    archive = Archive(tmp_path, 4 * SIZE)
    paths = [archive.put("gate", number, 50 - number) for number in (1, 2, 3, 4)]
    files = archive.stream("gate")
    files.next(archive.clock.wall_ns())
    paths[0].unlink()
    archive.limit.forget(paths[1])
    paths[1].unlink()
    for size in (SIZE, 2 * SIZE):
        files.grown(size)
        assert archive.removed == []
    files.grown(2 * SIZE + 1)
    assert archive.removed == ["gate.3"]


def test_a_restart_counts_what_is_there_and_the_report_what_went(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    rule = Segments(seconds=2.0, max_bytes=None, max_total_bytes=8 * 4096)
    seen: set[str] = set()
    for streams in (("gate", "gone"), ("gate", "lobby")):
        before = len(seen - {path.name for path in tmp_path.iterdir()})
        sink = VideoSink(tmp_path / "{stream}.mp4", mode="append", rotate=rule, clock=clock)
        sink.open()
        for stream in streams:
            sink.begin(StreamInfo(stream, fps=10))
        with caplog.at_level(logging.INFO):
            for frame in range(120):
                for stream in streams:
                    sink.write(numbered(frame, frame / 10, wall_ns=clock.wall_ns(), stream=stream))
                seen.update(path.name for path in tmp_path.iterdir())
                clock.advance(SECOND // 10)
        sink.close()
        left = {path.name for path in tmp_path.iterdir()}
        assert sink.segments_removed == len(seen - left) - before > 0
        assert max(age(name)[0] for name in seen - left) <= min(age(name)[0] for name in left), "the oldest went"
        assert sum(max(path.stat().st_size, 4096) for path in tmp_path.iterdir()) <= 8 * 4096
    assert {name.split(".")[0] for name in left} == {"gate", "lobby"}, "none is left of the stream that is gone"
    assert any(told.getMessage().endswith("(max_total_gb: 3.2768e-05)") for told in caplog.records)


def test_what_goes_for_another_limit_makes_room_for_all(tmp_path: Path) -> None:
    archive = Archive(tmp_path, 6 * SIZE)
    for number in (1, 2):
        archive.put("old", number, 99 - number)
    for number in (1, 2, 3, 4):
        archive.put("gate", number, 50 - number)
    archive.limit.room("old")
    files = archive.stream("gate", keep=2)
    files.next(archive.clock.wall_ns())
    assert len(list(tmp_path.iterdir())) == 4
    files.grown(2 * SIZE)
    assert archive.removed == []
    files.grown(2 * SIZE + 1)
    assert archive.removed == ["old.1"]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]), st.sampled_from(["grow", "grow", "grow", "finish"]), st.integers(1, 3),
        st.integers(0, 70),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(STEPS, st.integers(2, 12), st.lists(st.tuples(st.sampled_from("abd"), st.integers(1, 999)), max_size=12))
def test_the_limit_holds_and_the_oldest_is_what_goes(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, str, int, int]],
    most: int,
    left: list[tuple[str, int]],
) -> None:
    """Whatever is written: finished segments and those being written take no more than the limit, unless the latter do
    so alone; none that is left and finished is older than one that was removed, and a stream loses its oldest."""
    archive = Archive(tmp_path_factory.mktemp("archive"), most * SIZE)
    for number, (stream, ago_s) in enumerate(sorted(left, key=lambda one: -one[1]), start=1):
        archive.put(stream, number, ago_s)
    folder = Path(archive.paths.template).parent
    writers = {name: archive.stream(name) for name in "abc"}
    growing: dict[str, tuple[Path, int]] = {}
    went: list[tuple[int, str]] = []
    for stream, what, blocks, pause_s in steps:
        before = {path.name for path in folder.iterdir()}
        if what == "finish" and stream in growing:
            del growing[stream]
            writers[stream].finished()
            continue
        if stream not in growing:
            growing[stream] = writers[stream].next(archive.clock.wall_ns()), 0
        path, size = growing[stream]
        size += blocks * SIZE
        path.write_bytes(b"x" * size)
        growing[stream] = path, size
        writers[stream].grown(size)
        there = {path.name: path.stat().st_size for path in folder.iterdir()}
        written = {path.name: size for path, size in growing.values()}
        assert set(written) <= set(there), "never one that is being written"
        finished = sum(size for name, size in there.items() if name not in written)
        assert finished + sum(written.values()) <= most * SIZE or finished == 0
        removed = before - set(there)
        went.extend(age(name) for name in removed)
        for name in set(there) - set(written):
            assert all(age(gone) <= age(name) for gone in removed), "the oldest"
        archive.clock.advance(pause_s * SECOND)
    assert archive.kept == []


def age(name: str) -> tuple[str, int]:
    _, began, number, _ = name.split(".")
    return began, int(number)
