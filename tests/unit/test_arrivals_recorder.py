# SPDX-License-Identifier: Apache-2.0
"""What a recording loses is counted, and losing it stops nothing that could still be kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.arrivals import Recorder, StreamRecorder, Tape
from pipeline.arrivals import recorder as recording
from pipeline.arrivals.backlog import HANDFUL, Backlog, Job
from pipeline.arrivals.stream_files import StreamFiles
from pipeline.events import Condition
from pipeline.sources.file import FileSource
from pipeline.threads import StopFlag
from pipeline.timing import new_trace
from tests.arrivals import lines
from tests.background import until
from tests.media import Media, media

__all__ = ["media"]

TRACE = new_trace()


def nothing() -> None:
    """What is written in no time."""


@contextmanager
def hanging(recorder: Recorder) -> Iterator[None]:
    """The disk takes nothing more, until this ends."""
    stuck, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        stuck.set()
        goes_on.wait(30)

    assert recorder.put(hang)
    assert stuck.wait(30)
    try:
        yield
    finally:
        goes_on.set()


def opened(folder: Path) -> Recorder:
    recorder = Recorder(folder, reserve_bytes=0)
    recorder.open()
    return recorder


def document(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


class OwnDesk:
    """Writes at once, or has no room."""

    origin_ns = 0
    ended: str | None = None

    def __init__(self) -> None:
        self.room = True
        self.lost = self.lines_lost = 0

    def now_ns(self) -> int:
        return 1

    def put(self, job: Callable[[], None], size: int = 0, packets: int = 0, lines: int = 0) -> bool:
        if self.room:
            job()
        else:
            self.lose(packets, lines)
        return self.room

    def lose(self, packets: int, lines: int = 0) -> None:
        self.lost += packets
        self.lines_lost += lines


class TestBacklog:
    def test_it_is_bounded_by_bytes_and_by_jobs(self) -> None:
        backlog = Backlog(100, 3)
        assert backlog.put(Job(nothing, 60))
        assert not backlog.put(Job(nothing, 41))
        assert backlog.put(Job(nothing, 40))
        assert backlog.put(Job(nothing))
        assert not backlog.put(Job(nothing))
        assert [job.size for job in backlog.take(0)] == [60, 40, 0]
        assert list(backlog.take(0)) == []
        assert backlog.put(Job(nothing, 100))
        backlog.close()
        assert not backlog.put(Job(nothing))
        assert not backlog.over
        assert len(list(backlog.take(0))) == 1
        assert backlog.over

    def test_what_is_under_way_takes_room_until_it_is_written(self) -> None:
        backlog = Backlog(100, 2)
        backlog.put(Job(nothing, 60))
        backlog.put(Job(nothing, 30))
        under_way = backlog.take(0)
        assert next(under_way).size == 60
        assert not backlog.put(Job(nothing, 1)), "there are two, still"
        assert next(under_way).size == 30
        assert not backlog.put(Job(nothing, 71)), "30 bytes are under way"
        assert backlog.put(Job(nothing, 70))

    def test_what_is_given_up_is_all_that_was_not_written(self) -> None:
        backlog = Backlog(100, 3)
        for size in (1, 2, 3):
            backlog.put(Job(nothing, size))
        under_way = backlog.take(0)
        next(under_way)
        next(under_way)
        assert [job.size for job in backlog.give_up()] == [2, 3]
        assert backlog.over
        assert list(under_way) == []


def test_a_stream_that_comes_while_the_backlog_is_full_is_recorded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "BACKLOG_JOBS", 2)
    recorder = opened(tmp_path / "rec")
    with hanging(recorder):
        assert recorder.put(nothing)
        assert not recorder.put(nothing)
        late = recorder.stream("late", "camera")
    until(lambda: recorder.put(nothing), "room")
    until(lambda: recorder.put(lambda: late._files.write_line("frames.jsonl", {"frame": 0})), "room")
    recorder.close()
    assert recorder.ended is None
    assert lines(tmp_path / "rec" / "late" / "frames.jsonl") == [{"frame": 0}]


def test_a_refused_flush_ends_the_recording_and_what_waits_is_counted(tmp_path: Path) -> None:
    recorder = opened(tmp_path / "rec")
    (tmp_path / "rec" / "gate").mkdir()
    (tmp_path / "rec" / "gate" / "frames.jsonl").symlink_to("/dev/full")
    gate = recorder.stream("gate", "camera")
    with hanging(recorder):
        gate.outcome(TRACE, None)
        for _ in range(HANDFUL - 2):
            recorder.put(nothing)
        for _ in range(5):
            recorder.put(nothing, 10, packets=1)
    until(lambda: recorder.lost == 5, "the loss of what waited")
    assert not recorder.put(nothing, 10, packets=1), "what comes later is lost, too"
    recorder.close()
    assert recorder.ended == "No space left on device"
    assert (recorder.lost, recorder.lines_lost) == (6, 1)
    ended = document(tmp_path / "rec" / "recording.json")["ended"]
    assert (ended["state"], ended["lost"], ended["lines_lost"]) == ("ended", 6, 1)
    assert document(tmp_path / "rec" / "services.json") == {}


def test_a_fault_in_the_recorder_loses_nothing_uncounted(tmp_path: Path) -> None:
    recorder = opened(tmp_path / "rec")

    def fail() -> None:
        raise ValueError("out of order")

    with hanging(recorder):
        recorder.put(fail, packets=1)
        for _ in range(5):
            recorder.put(nothing, 10, packets=1, lines=1)
    recorder.close()
    assert document(tmp_path / "rec" / "recording.json")["ended"] == recorder.facts() | {"folder": None}
    assert (recorder.ended, recorder.lost, recorder.lines_lost) == ("out of order", 6, 5)


def test_a_disk_that_hangs_at_the_end_is_no_complete_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_CLOSING_S", 0.01)
    recorder = opened(tmp_path / "rec")
    with hanging(recorder):
        for _ in range(5):
            recorder.put(nothing, 10, packets=1, lines=2)
        recorder.close()
        facts = recorder.facts()
        assert (facts["state"], facts["lost"], facts["lines_lost"]) == ("ended", 5, 10)
        assert facts["reason"] == "its disk did not take what was left within 0.01 s"
    until(lambda: "ended" in document(tmp_path / "rec" / "recording.json"), "the disk's recovery")
    assert document(tmp_path / "rec" / "recording.json")["ended"] == facts | {"folder": None}


def test_a_connection_that_opens_while_there_is_no_room_is_recorded_from_then_on(media: Media, tmp_path: Path) -> None:
    desk = OwnDesk()
    source = FileSource(media.clip("mkv", count=8))
    files = StreamFiles(tmp_path / "clip", desk)
    recorder = StreamRecorder(files, desk, "recording")
    source.watch(recorder)
    desk.room = False
    source.open(StopFlag())
    source.read()
    lost = desk.lost
    desk.room = True
    while source.read() is not None:
        pass
    source.close()
    files.close()
    log = lines(tmp_path / "clip" / "arrivals.jsonl")
    assert lost >= 1
    assert "opened" in log[0]
    assert [line.get("gap") for line in log[1:]] == [lost] + [None] * (7 - lost)
    assert desk.lost == lost
    tape = Tape("clip", iter(log))
    tape.next_attempt()
    tape.tear(1)
    assert tape.gaps == lost, "a replay knows how many are missing"


def test_lines_that_find_no_room_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "BACKLOG_JOBS", 1)
    recorder = opened(tmp_path / "rec")
    gate = recorder.stream("gate", "camera")
    with hanging(recorder):
        gate.at(Condition("connecting"))
        gate.outcome(TRACE, "stale")
    recorder.close()
    assert recorder.facts() | {"folder": None} == document(tmp_path / "rec" / "recording.json")["ended"]
    assert (recorder.lost, recorder.lines_lost, recorder.ended) == (0, 2, None)


def test_a_reader_that_was_left_behind_writes_nothing_into_the_next_ones_connection(
    media: Media, tmp_path: Path
) -> None:
    """It hung, its stream was begun anew, and then it came back with a packet."""
    recorder = opened(tmp_path / "rec")
    sources = []
    for kind, count in (("camera", 8), ("recording", 5)):
        source = FileSource(media.clip("mkv", count=count))
        watcher = recorder.stream("gate", kind)
        source.watch(watcher)
        sources.append((source, watcher))
    (hung, its), (new, _) = sources
    hung.open(StopFlag())
    hung.read()
    new.open(StopFlag())
    new.read()
    while hung.read() is not None:
        pass
    its.at(Condition("backoff", "hung", "hung"))
    its.outcome(TRACE, "shutdown")  # its frames are still accounted for
    while new.read() is not None:
        pass
    for source, _ in sources:
        source.close()
    recorder.close()
    log = lines(tmp_path / "rec" / "gate" / "arrivals.jsonl")
    opens = [line for line in log if "opened" in line]
    assert [(line["opened"], line["kind"]) for line in opens] == [(1, "camera"), (2, "recording")]
    after = log[log.index(opens[1]) + 1 :]
    assert [line["packet"] for line in after] == [2] * 5
    assert [line["outcome"] for line in lines(tmp_path / "rec" / "gate" / "frames.jsonl")] == ["shutdown"]
    assert recorder.facts()["state"] == "complete"


def test_a_disk_that_takes_no_service_times_still_takes_how_it_ended(tmp_path: Path) -> None:
    recorder = opened(tmp_path / "rec")
    (tmp_path / "rec" / "services.json").mkdir()  # nothing can be put in its place
    recorder.close()
    assert "ended" in document(tmp_path / "rec" / "recording.json")
    assert recorder.ended is not None
