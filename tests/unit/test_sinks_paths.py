# SPDX-License-Identifier: Apache-2.0
"""Where files may lie and what is said when they cannot."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, SinkError
from pipeline.frame import StreamInfo
from pipeline.protocols import Sink
from pipeline.sinks import CallbackSink, CocoSink, CsvSink, JsonlSink, MotSink, VideoSink
from pipeline.sinks.paths import StreamPaths, sink_error


@pytest.mark.parametrize(
    "name",
    ["../up", "a/b", "", ".", "..", "a\0b", "a.b", "Straße", "a" * 65, "a\n", "{stream}"],
)
def test_a_stream_name_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    for sink in (JsonlSink(folder / "{stream}.jsonl"), CocoSink(folder), VideoSink(folder / "{stream}.mp4")):
        sink.open()
        with pytest.raises(SinkError, match="cannot be part of a file name: expected 1 to 64 of A-Z a-z 0-9 _ -"):
            sink.begin(StreamInfo(name))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "coco.parts"]


def test_folders_are_made(tmp_path: Path) -> None:
    paths = StreamPaths(tmp_path / "deep" / "{stream}" / "{stream}.jsonl")
    paths.prepare()
    assert (tmp_path / "deep").is_dir()
    assert paths.of("gate") == tmp_path / "deep" / "gate" / "gate.jsonl"
    assert (tmp_path / "deep" / "gate").is_dir()


def test_a_bare_file_name_lies_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink = JsonlSink("{stream}.jsonl")
    sink.open()
    sink.begin(StreamInfo("a"))
    sink.close()
    assert (tmp_path / "a.jsonl").read_bytes() == b""


@pytest.mark.parametrize("template", ["out/{streem}.jsonl", "out/{}.jsonl", "{stream}/{date}.jsonl"])
def test_other_placeholders_are_refused(template: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown placeholder \{.*\}; expected \{stream\}"):
        StreamPaths(template)


@pytest.mark.parametrize("template", ["", "out/"])
def test_a_folder_is_no_file(template: str) -> None:
    with pytest.raises(ConfigError, match="expected a file name at the end"):
        StreamPaths(template)


def test_a_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    for sink in (
        JsonlSink(tmp_path / "out" / "{stream}.jsonl"),
        CsvSink(tmp_path / "out" / "sub" / "{stream}.csv"),
        MotSink(tmp_path / "out" / "{stream}.mot.txt"),
        CocoSink(tmp_path / "out"),
        VideoSink(tmp_path / "out" / "{stream}.mp4"),
    ):
        with pytest.raises(SinkError, match=r"cannot write into the folder .*/out.*\(choose another folder"):
            sink.open()
        sink.close()
    assert (tmp_path / "out").read_text() == "a file"


def test_an_unwritable_folder_is_found_at_once() -> None:
    with pytest.raises(SinkError, match="cannot write into the folder /proc/1: "):
        JsonlSink("/proc/1/{stream}.jsonl").open()


def test_a_complaint_is_one_line_with_file_reason_and_remedy() -> None:
    error = sink_error("write", Path("out/gate.jsonl"), OSError(errno.ENOSPC, "ignored"))
    assert str(error) == (
        "cannot write out/gate.jsonl: No space left on device (results are lost until there is room again)"
    )
    assert str(sink_error("write", Path("a"), OSError("odd"))) == "cannot write a: odd"


def test_all_sinks_keep_the_contract(tmp_path: Path) -> None:
    sinks = [
        JsonlSink(tmp_path / "{stream}.jsonl"),
        CsvSink(tmp_path / "{stream}.csv"),
        MotSink(tmp_path / "{stream}.mot.txt"),
        CocoSink(tmp_path),
        VideoSink(tmp_path / "{stream}.mp4"),
        CallbackSink(print),
    ]
    assert all(isinstance(sink, Sink) for sink in sinks)
    assert [sink.name for sink in sinks] == ["jsonl", "csv", "mot", "coco", "video", "callback"]
    assert [sink.wants_pictures for sink in sinks] == [False, False, False, False, True, False]
