# SPDX-License-Identifier: Apache-2.0
"""What ``isolation: process`` costs is measured on copies that are read so, and counts in what a machine can do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import build
from pipeline.config import StreamConfig
from pipeline.frame import Capture, InputSpec
from pipeline.plan import isolation
from pipeline.plan.copies import Copy
from pipeline.plan.costs import FrameCost, StreamCosts
from pipeline.plan.isolation import Apart, apart, with_isolation
from pipeline.sources import Isolation
from pipeline.threads import StopFlag
from tests.commands import cli
from tests.faults.camera import Camera, read_clip, serving
from tests.media import Media, media
from tests.models import save_cells

__all__ = ["cli", "media"]


@pytest.fixture
def config(media: Media) -> StreamConfig:
    clip = media.clip(count=50)
    entry = {"name": "gate", "source": str(clip), "loop": True, "pace": "realtime", "isolation": "process"}
    return StreamConfig.model_validate(entry)


@pytest.fixture
def homes() -> Iterator[list[Isolation]]:
    made: list[Isolation] = []
    yield made
    assert all(home.pid is None for home in made), "they end with their streams"


def some_frames(config: StreamConfig, homes: list[Isolation] | None, count: int) -> list[Capture]:
    source = build.feed(config, apart=homes).source
    source.open(StopFlag())
    found = [capture for _ in range(count) if (capture := source.read()) is not None]
    source.close()
    return found


def test_a_copy_that_is_read_apart_shows_what_it_shows_here(config: StreamConfig, homes: list[Isolation]) -> None:
    here, there = some_frames(config, None, 30), some_frames(config, homes, 30)
    assert len(homes) == 1
    by_index = {capture.index: capture for capture in here}
    both = [(by_index[one.index], one) for one in there if one.index in by_index]
    assert len(both) > 15
    for one, other in both:
        assert one.pts_s == pytest.approx(other.pts_s, abs=1e-6)
        assert (one.epoch, one.picture.size) == (other.epoch, other.picture.size)
        for plane, same in zip(one.picture.planes, other.picture.planes, strict=True):
            np.testing.assert_array_equal(plane, same)
    assert there[-1].read_ns - there[0].read_ns > 0.9e9, "at its own pace: 25 frames a second"
    assert all(capture.wall_ns for capture in there)


def test_a_frame_costs_something_there(config: StreamConfig) -> None:
    more = apart(Copy(config, config, 2.0), 0.5, StopFlag())
    assert 0.0 <= more.frame_ms < 50
    assert 5 < more.memory_mb < 100, "an interpreter, libav and a handful of pictures"


def test_only_cameras_that_are_read_apart_cost_more_and_each_kind_is_measured_once(
    config: StreamConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def measured(copy: Copy, seconds: float, stop: StopFlag) -> Apart:
        looked.append(copy.stream.name)
        return Apart(2.0, 30.0) if len(looked) == 1 else Apart(0.5, 50.0)

    monkeypatch.setattr(isolation, "apart", measured)
    small = StreamCosts((FrameCost(0.0, 1_000_000, 0, 1),), None, InputSpec(64, 64), 640, 360, "h264")
    large = StreamCosts((FrameCost(0.0, 2_500_000, 0, 1),), None, InputSpec(64, 64), 1920, 1080, "h264")
    copies, streams = [], {}
    for name, way, seconds, costs in (
        ("a", "process", 2.0, small), ("b", "process", 2.0, small), ("c", "process", 2.0, large),
        ("thread", "thread", 2.0, small), ("recording", "process", None, small),
    ):  # fmt: skip
        stream = config.model_copy(update={"name": name, "isolation": way})
        copies.append(Copy(stream, stream, seconds))
        streams[name] = costs
    found = with_isolation(copies, streams, 1.0, StopFlag(), lambda text: None)
    assert looked == ["a", "c"]
    assert {name: costs.isolation_ms for name, costs in found.items()} == {
        "a": 2.0, "b": 2.0, "c": 0.5, "thread": 0.0, "recording": 0.0,
    }  # fmt: skip
    assert [costs.isolation_mb for costs in found.values()] == [30.0, 30.0, 50.0, 0.0, 0.0]


@pytest.mark.slow
def test_a_plan_of_a_camera_that_is_read_apart(
    cli: Any, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is proven with its process, whose CPU time is in the proof's cores."""
    monkeypatch.setattr("pipeline.plan.run.SIMULATED_S", 4.0)
    made: list[Isolation] = []

    def remembered(*args: Any, **options: Any) -> Isolation:
        made.append(Isolation(*args, **options))
        return made[-1]

    monkeypatch.setattr(build.feeds, "Isolation", remembered)
    with serving(Camera("gate", read_clip(media.clip("mkv", count=60)), fps=25.0)) as cameras:
        file = tmp_path / "s.yaml"
        file.write_text(
            f"model: {{path: {save_cells(tmp_path)}, device: cpu}}\n"
            f"streams:\n  - {{name: gate, source: '{cameras.url('gate')}', isolation: process}}\n"
        )
        done = cli("plan", file, "--out", "offer", "--prove", "1", "--json", "--measure", "0.3", "--copy", "0.8")
    assert done.code in (0, 5), done.err
    report = json.loads(done.out)
    assert report["streams"]["gate"]["isolation_ms"] >= 0
    assert 5 < report["streams"]["gate"]["isolation_mb"] < 100
    assert report["predicted"]["memory_mb"] > report["streams"]["gate"]["isolation_mb"]
    assert report["proof"]["memory_mb"] > 100
    assert report["proof"]["fps"] > 0
    assert [home.started for home in made] == [1, 1], "one to measure, one to prove"
    assert all(home.pid is None for home in made)
    assert any("A process of its own (`isolation`) reads gate: " in said for said in report["assumptions"])
