# SPDX-License-Identifier: Apache-2.0
"""Which files a run says that it wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.cli.files.written import written_files
from pipeline.config import JsonlSinkConfig, VideoSinkConfig

SECOND = 1_000_000_000


def test_of_segments_the_newest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of a year has thousands; and a link to nowhere is in nobody's way."""
    monkeypatch.chdir(tmp_path)
    times = {
        "gate.jsonl": 100,
        "gate.jsonl.1": 90,
        "gate.2026-11-28T13-03-56Z.9.mp4": 99,
        "gate.2026-11-28T14-03-56Z.10.mp4": 100,
        "gate.2026-11-27T14-03-56Z.3.mp4": 1,
        "lobby.2026-11-27T14-03-56Z.3.mp4": 1,
    }
    for name, at_s in times.items():
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, ns=(at_s * SECOND, at_s * SECOND))
    (tmp_path / "gate.2026-11-28T15-03-56Z.11.mp4").symlink_to("nowhere")
    sinks = [
        JsonlSinkConfig(type="jsonl", path=str(tmp_path / "{stream}.jsonl"), events=None),
        VideoSinkConfig(type="video", path=str(tmp_path / "{stream}.mp4")),
    ]
    assert [str(file) for file in written_files(sinks, ["gate", "lobby"], 50 * SECOND)] == [
        "gate.jsonl",
        "gate.2026-11-28T14-03-56Z.10.mp4",
    ]
