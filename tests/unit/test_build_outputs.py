# SPDX-License-Identifier: Apache-2.0
"""What is made of the section ``sinks``."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pipeline import build
from pipeline.config.outputs import CocoSinkConfig, CsvSinkConfig, JsonlSinkConfig, MotSinkConfig, VideoSinkConfig
from pipeline.daemon.outlets import tell_where
from pipeline.flow.outlet import Outlet


def test_where_each_sink_writes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    sinks = build.sinks(
        [
            JsonlSinkConfig(type="jsonl", path="out/{stream}.jsonl"),
            JsonlSinkConfig(type="jsonl", path="/srv/all.jsonl"),
            CsvSinkConfig(type="csv", path="../{stream}.csv"),
            MotSinkConfig(type="mot", path="{stream}.txt"),
            CocoSinkConfig(type="coco", path="coco"),
            VideoSinkConfig(type="video", path="out/{stream}.mp4"),
        ],
        "0" * 16,
    )
    expected = {
        "jsonl-0": f"{tmp_path}/out/{{stream}}.jsonl",
        "jsonl-1": "/srv/all.jsonl",
        "csv": f"{tmp_path.parent}/{{stream}}.csv",
        "mot": f"{tmp_path}/{{stream}}.txt",
        "coco": f"{tmp_path}/coco",
        "video": f"{tmp_path}/out/{{stream}}.mp4",
    }
    assert {sink.name: Outlet(sink, 1, "block").account.path for sink in sinks} == expected
    with caplog.at_level(logging.INFO, "pipeline"):
        tell_where(sinks)
    assert [record.message for record in caplog.records] == [
        f"sink {name} writes {path}" for name, path in expected.items()
    ]
