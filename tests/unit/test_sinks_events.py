# SPDX-License-Identifier: Apache-2.0
"""Events of streams in files of their own, beside the results, under the same rules."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline import build
from pipeline.config.outputs import JsonlSinkConfig
from pipeline.errors import SinkError
from pipeline.events import StreamEvent
from pipeline.frame import StreamInfo
from pipeline.sinks import JsonlSink, Rotate
from pipeline.sinks.event_file import EventFiles
from tests.configs import faults


def event(number: int = 0, stream: str = "gate") -> StreamEvent:
    return StreamEvent(
        stream, "down", "backoff", 1_700_000_000_000_000_000 + number, "eof", "the feed ended", 1.23456,
        epoch=2, frame=17, width=640, height=360, codec="h264",
    )  # fmt: skip


def test_a_line_says_everything(tmp_path: Path) -> None:
    EventFiles(tmp_path / "{stream}.events.jsonl").append(event(), "r1")
    text = (tmp_path / "gate.events.jsonl").read_text()
    assert text.endswith("\n")
    assert json.loads(text) == {
        "stream": "gate", "time": "2023-11-14T22:13:20.000000Z", "event": "down", "state": "backoff", "cause": "eof",
        "detail": "the feed ended", "after_s": 1.235, "epoch": 2, "frame": 17, "width": 640, "height": 360,
        "codec": "h264", "run": "r1",
    }  # fmt: skip


def test_a_torn_tail_is_repaired_and_full_files_are_turned(tmp_path: Path) -> None:
    path = tmp_path / "gate.events.jsonl"
    path.write_bytes(b'{"stream":"gate","time":"2023"}\n{"stream":"ga')
    files = EventFiles(tmp_path / "{stream}.events.jsonl", rotate=Rotate(max_mb=0.001, keep=2), durable=True)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(40):
        files.append(event(number))
    assert len(os.listdir("/proc/self/fd")) == before, "no file is kept open"
    found = sorted(tmp_path.iterdir())
    assert [file.name for file in found] == ["gate.events.jsonl", "gate.events.jsonl.1", "gate.events.jsonl.2"]
    for file in found:
        assert len(file.read_bytes()) <= 1000
        assert all(json.loads(line)["stream"] == "gate" for line in file.read_text().splitlines())


def test_what_cannot_be_written_is_a_sink_error(tmp_path: Path) -> None:
    (tmp_path / "gate.events.jsonl").symlink_to("/dev/full")
    with pytest.raises(SinkError, match="No space left"):
        EventFiles(tmp_path / "{stream}.events.jsonl").append(event())


def test_results_and_events_are_never_mixed(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "{stream}.jsonl", mode="append", run_id="r1", events=tmp_path / "{stream}.events.jsonl")
    sink.open()
    sink.event(event())  # of a camera that was not reached yet
    sink.begin(StreamInfo("gate"))
    sink.event(event(1))
    sink.end("gate")
    sink.close()
    assert (tmp_path / "gate.jsonl").read_bytes() == b""
    assert len((tmp_path / "gate.events.jsonl").read_text().splitlines()) == 2


def sink_of(**entry: object) -> JsonlSink:
    (sink,) = build.sinks([JsonlSinkConfig.model_validate({"type": "jsonl", **entry})], "r1")
    assert isinstance(sink, JsonlSink)
    return sink


def test_where_they_go_by_configuration(tmp_path: Path) -> None:
    def path(**entry: object) -> str | None:
        return JsonlSinkConfig.model_validate({"type": "jsonl", **entry}).events_path

    assert path(path=f"{tmp_path}/{{stream}}.jsonl") == f"{tmp_path}/{{stream}}.events.jsonl"
    assert path(path=f"{tmp_path}/all.log") == f"{tmp_path}/all.log.events.jsonl"
    assert path(path=f"{tmp_path}/a.jsonl", events=f"{tmp_path}/b.jsonl") == f"{tmp_path}/b.jsonl"
    assert path(path=f"{tmp_path}/a.jsonl", events=False) is None
    assert path(path="/dev/stdout") is None, "nothing can be laid beside it"
    os.mkfifo(tmp_path / "pipe")
    assert path(path=f"{tmp_path}/pipe") is None
    assert sink_of(path=f"{tmp_path}/a.jsonl").wants_events
    assert not sink_of(path=f"{tmp_path}/a.jsonl", events=False).wants_events


def test_two_sinks_cannot_share_a_file_of_events() -> None:
    sinks = "  - {type: jsonl, path: a.jsonl}\n  - {type: csv, path: a.events.jsonl}\n"
    text = f"streams: [{{name: a, source: a.mp4}}]\nsinks:\n{sinks}"
    assert any("writes to the same path" in fault for fault in faults(text))
