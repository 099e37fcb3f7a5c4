# SPDX-License-Identifier: Apache-2.0
"""The pipeline's own format, byte by byte."""

from __future__ import annotations

import json
import os
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SinkError
from pipeline.frame import Detections, Result, StreamInfo
from pipeline.sinks.jsonl import JsonlSink, latency_ms, line
from pipeline.sinks.stream_files import Fsync, StreamFiles
from pipeline.testing import ManualClock

LABELS = {0: "person", 1: "Fußgänger 歩行者", 2: 'a "quoted", \\ name\n'}


def found(n: int = 1, track: bool = False) -> Detections:
    boxes = np.array([[10.0, 20.004, 30.1, 40.126]] * n, np.float32).reshape(n, 4)
    confidence = np.full(n, 0.913, np.float32)
    return Detections(boxes, confidence, np.arange(n) % 3, np.arange(n) + 7 if track else None)


def result(frame: int = 12, detections: Detections | None = None, **changes: object) -> Result:
    values: dict[str, object] = {
        "stream": "plaza",
        "frame": frame,
        "pts": 0.48,
        "wall_ns": None,
        "width": 1280,
        "height": 720,
        "detections": found() if detections is None else detections,
        "labels": LABELS,
    }
    return Result(**(values | changes))  # type: ignore[arg-type]


def test_a_replayed_line_is_exactly_the_contract() -> None:
    assert line(result()) == (
        b'{"stream":"plaza","frame":12,"pts":0.48,"time":null,"width":1280,"height":720,"detections":'
        b'[{"class_id":0,"label":"person","confidence":0.913,"box":[10.0,20.0,30.1,40.13],"track_id":null}]}\n'
    )


def test_a_frame_without_detections_has_its_line() -> None:
    assert line(result(detections=Detections.empty())) == (
        b'{"stream":"plaza","frame":12,"pts":0.48,"time":null,"width":1280,"height":720,"detections":[]}\n'
    )


def test_a_live_line_says_run_epoch_latency_and_drops() -> None:
    trace = [
        1_000,
        3_000_000,
        4_000_000,
        6_500_000,
        *(6_600_000, 6_700_000, 6_800_000, 0, 0),
        7_000_000,
        9_000_000,
        9_100_000,
        9_100_500,
        9_200_001,
        0,
        10**9,
        2 * 10**9,
    ]
    said = json.loads(line(result(wall_ns=1_795_447_445_123_456_789, epoch=3, dropped_before=2, trace=trace), "run-1"))
    assert list(said) == [
        *("stream", "frame", "pts", "time", "width", "height", "detections"),
        *("run", "epoch", "latency_ms", "dropped_before"),
    ]
    assert (said["run"], said["epoch"], said["dropped_before"]) == ("run-1", 3, 2)
    assert said["time"] == "2026-11-23T15:24:05.123456Z"
    assert said["latency_ms"] == {
        "decode": 2.999,
        "preprocess": 2.5,
        "queue": 1.5005,
        "infer": 2.0,
        "postprocess": 0.1,
        "follow": 0.099501,
        "end_to_end": 9.199001,
    }


@given(st.lists(st.integers(0, 10**12), min_size=15, max_size=15))
def test_the_stages_of_a_line_add_up_to_the_nanosecond(steps: list[int]) -> None:
    trace = np.cumsum(np.array(steps, dtype=object) + 1).tolist() + [0, 0]
    shown = latency_ms(trace)
    # Decimal(repr) is what a reader of the text sees: exact, where adding floats would not be.
    total = sum((Decimal(repr(ms)) for stage, ms in shown.items() if stage != "end_to_end"), Decimal(0))
    assert total == Decimal(repr(shown["end_to_end"]))
    assert "sink" not in shown


def test_a_result_without_marks_has_no_latency() -> None:
    assert json.loads(line(result(trace=[]), "r"))["latency_ms"] == {}


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} in JSON")


finite32 = st.floats(0, 8192, width=32)


@given(
    st.lists(st.tuples(finite32, finite32, finite32, finite32, st.floats(0, 1, width=32)), max_size=5),
    st.floats(-10, 1e6),
)
def test_numbers_are_short_near_and_finite(rows: list[tuple[float, ...]], pts: float) -> None:
    values = np.array(rows, np.float32).reshape(-1, 5)
    detections = Detections(values[:, :4], values[:, 4], np.zeros(len(values), np.int64))
    text = line(result(detections=detections, pts=pts))
    said = json.loads(text, parse_constant=refuse_constant)
    assert abs(said["pts"] - pts) <= 0.5001e-6 + 1e-12 * abs(pts)
    assert b"-0.0" not in re.findall(rb"[-0-9.e]+", text)
    for row, detection in zip(values, said["detections"], strict=True):
        assert np.abs(np.array(detection["box"]) - row[:4]).max() <= 0.005 + 1e-9
        assert abs(detection["confidence"] - row[4]) <= 0.00005 + 1e-9
        assert 0 <= detection["confidence"] <= 1
        for number in detection["box"]:
            assert Decimal(repr(number)).as_tuple().exponent >= -2  # type: ignore[operator]
        assert Decimal(repr(detection["confidence"])) == round(Decimal(repr(detection["confidence"])), 4)


def test_negative_zero_is_zero() -> None:
    detections = Detections(np.array([[-0.0, -0.001, 1, 1]], np.float32), np.array([-0.0], np.float32), np.array([0]))
    assert b'"confidence":0.0,"box":[0.0,0.0,1.0,1.0]' in line(result(detections=detections, pts=-0.0))
    assert b'"pts":0.0' in line(result(pts=-0.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["box", "confidence"])
def test_nan_never_gets_into_a_file(bad: float, where: str) -> None:
    detections = found(2)
    (detections.xyxy[1] if where == "box" else detections.confidence)[1] = bad
    with pytest.raises(SinkError, match="plaza frame 12: a box or confidence is not a finite number"):
        line(result(detections=detections))


def test_labels_of_any_script_and_unknown_classes(tmp_path: Path) -> None:
    detections = Detections(np.zeros((4, 4), np.float32), np.ones(4, np.float32), np.array([1, 2, 99, -3]))
    said = json.loads(line(result(detections=detections)).decode("utf-8"))
    assert [each["label"] for each in said["detections"]] == [LABELS[1], LABELS[2], "99", "-3"]


def test_what_json_cannot_hold_is_a_sink_error() -> None:
    with pytest.raises(SinkError, match="plaza frame 12 cannot be written as JSON"):
        line(result(labels={0: "\ud800"}))


def test_track_ids_are_whole_numbers() -> None:
    assert [each["track_id"] for each in json.loads(line(result(detections=found(3, True))))["detections"]] == [7, 8, 9]


def test_files_of_a_replay_replace_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("old, of another run")
    sink = JsonlSink(tmp_path / "{stream}.jsonl")
    sink.open()
    sink.begin(StreamInfo("a"))
    sink.begin(StreamInfo("silent"))
    sink.write(result(0, stream="a"))
    sink.end("a")
    sink.write(result(1, stream="a"))  # a straggler reopens the file and does not empty it
    sink.close()
    sink.close()
    assert [json.loads(text)["frame"] for text in (tmp_path / "a.jsonl").read_text().splitlines()] == [0, 1]
    assert (tmp_path / "silent.jsonl").read_bytes() == b""


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        sink = JsonlSink(tmp_path / folder / "{stream}.jsonl")
        sink.open()
        for frame in range(20):
            sink.write(result(frame, found(frame % 4, track=True), pts=frame / 29.97))
        sink.close()
    assert (tmp_path / "one" / "plaza.jsonl").read_bytes() == (tmp_path / "two" / "plaza.jsonl").read_bytes()


def test_open_files_are_bounded_by_open_streams(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    sink = JsonlSink(tmp_path / "{stream}.jsonl")
    sink.open()
    for n in range(100):
        sink.begin(StreamInfo(f"s{n}"))
        sink.write(result(stream=f"s{n}"))
        sink.end(f"s{n}")
        assert len(os.listdir("/proc/self/fd")) == before
    sink.close()


def test_streams_can_share_a_file(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "all.jsonl", mode="append", run_id="r")
    sink.open()
    for name in ("a", "b"):
        sink.begin(StreamInfo(name))
    for name in ("a", "b", "a"):
        sink.write(result(stream=name))
    sink.end("a")
    sink.write(result(stream="b"))
    sink.close()
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    assert [json.loads(text)["stream"] for text in lines] == ["a", "b", "a", "b"]


def test_a_pipe_that_streams_share_is_open_until_the_last_of_them_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    sink = JsonlSink(tmp_path / "pipe", mode="append")
    sink.open()
    with pytest.raises(SinkError, match=r"No such device or address \(nobody reads this pipe"):
        sink.begin(StreamInfo("a"))  # and does not wait for one
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("a", "b"):
        sink.begin(StreamInfo(name))
        sink.write(result(stream=name))
    sink.end("a")
    assert os.read(reading, 65536).count(b"\n") == 2
    with pytest.raises(BlockingIOError):  # nothing yet; at the end of the file it would return nothing
        os.read(reading, 1)
    sink.write(result(stream="b"))
    sink.end("b")
    assert os.read(reading, 65536).count(b"\n") == 1
    assert os.read(reading, 1) == b""
    os.close(reading)


@pytest.mark.parametrize(
    ("fsync", "expected"), [("never", [0, 0, 0, 0]), ("interval", [0, 0, 2, 4]), ("always", [1, 2, 3, 4])]
)
def test_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Fsync, expected: list[int]) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    clock = ManualClock()
    files = StreamFiles(tmp_path / "{stream}", fsync=fsync, clock=clock)
    files.open()
    counts = []
    for stream, wait_ns in (("a", 0), ("b", 999_999_999), ("a", 1)):
        clock.advance(wait_ns)
        files.append(stream, b"record\n")
        counts.append(len(synced))
    files.append("b", b"record\n")
    if fsync == "interval":
        files.append("a", b"record\n")  # both have something to sync at the end
    files.close()
    assert [*counts, len(synced)] == expected


def test_a_failed_sync_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(5, "")

    sink = JsonlSink(tmp_path / "{stream}.jsonl", fsync="always")
    sink.open()
    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(SinkError, match=r"cannot sync .*/plaza\.jsonl: Input/output error"):
        sink.write(result())
    with pytest.raises(SinkError, match="cannot sync"):
        sink.close()
