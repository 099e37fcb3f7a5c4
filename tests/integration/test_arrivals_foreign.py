# SPDX-License-Identifier: Apache-2.0
"""Recordings of arrivals that somebody else made, or that something happened to: nothing in them is trusted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.arrivals import Recording
from pipeline.arrivals import reading as reading_of
from pipeline.cli import main
from pipeline.errors import UsageError
from pipeline.replaying import ArrivalsReplay, ReplayOptions
from pipeline.testing import FakeDetector, ListSink
from tests.arrivals import busy, lines, record
from tests.daemons import no_network
from tests.media import Media, media

__all__ = ["media", "no_network"]


@pytest.fixture(scope="module")
def made(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two streams of a few frames each; one of them has the name of a file that a replay writes."""
    folder = tmp_path_factory.mktemp("made") / "rec"
    clip = str(media.clip("mkv", count=8))
    record(folder, [{"name": name, "source": clip, "pace": "realtime"} for name in ("gate", "decisions")],
           detector=busy(0.001))  # fmt: skip
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "rec")


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def played(folder: Path, out: Path | None = None, **options: Any) -> ArrivalsReplay:
    replay = ArrivalsReplay(folder, "virtual", ReplayOptions(sources=(), out=out, **options), [ListSink()])
    replay.start()
    assert replay.wait(0.0)
    assert replay.ledger.unbalanced() == {}
    return replay


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("spoil", [pipe, endless], ids=["pipe", "device"])
@pytest.mark.parametrize("name", ["recording.json", "services.json", "gate/arrivals.jsonl", "gate/1.nut"])
def test_what_is_no_plain_file_is_not_read(
    folder: Path, no_network: FakeDetector, spoil: Callable[[Path], None], name: str
) -> None:
    """It would never end."""
    spoil(folder / name)
    if name.endswith(".json"):
        with pytest.raises(UsageError, match=r"recording\.json in it|is damaged"):
            ArrivalsReplay(folder, "virtual", ReplayOptions(sources=()))
        return
    replay = played(folder)
    gate = replay.ledger.streams.get("gate")
    assert gate is None or gate.decoded == 0
    assert replay.ledger.streams["decisions"].decoded == 8


@pytest.mark.parametrize("name", ["recording.json", "services.json"])
def test_a_file_that_is_far_too_large_is_refused(folder: Path, name: str) -> None:
    os.truncate(folder / name, reading_of.MOST_BYTES + 1)
    with pytest.raises(UsageError, match="is damaged"):
        Recording(folder)


def test_a_line_without_an_end_ends_the_log(folder: Path, no_network: FakeDetector) -> None:
    log = folder / "gate" / "arrivals.jsonl"
    os.truncate(log, log.stat().st_size + 1 + 64 * reading_of.LONGEST_LINE)
    assert played(folder).ledger.streams["gate"].decoded == 8


@pytest.mark.parametrize("key", ["pts", "fps", "size", "time_base"])
def test_a_line_that_lacks_something_ends_the_log(folder: Path, no_network: FakeDetector, key: str) -> None:
    log = folder / "gate" / "arrivals.jsonl"
    log.write_bytes(log.read_bytes().replace(f'"{key}":'.encode(), b'"other":'))
    if key in ("fps", "time_base"):
        assert Recording(folder).streams == ["decisions"]
    else:
        assert played(folder).ledger.streams["gate"].decoded == 0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("services.json", lambda found: found.update({"1": {"samples_ns": [[10**25, 1]]}})),
        ("services.json", lambda found: found.update({"1": {"samples_ns": [[1 << 60, 1 << 60]]}})),
        ("services.json", lambda found: found.update({"1": {"samples_ns": [[1e300, 1]]}})),
        ("services.json", lambda found: found.update({"1": {"samples_ns": [[[1], 1]]}})),
        ("services.json", lambda found: found.update({"1": [[1, 1]]})),
        ("recording.json", lambda found: found.update({"wall_ns": 10**30})),
        ("recording.json", lambda found: found.update({"wall_ns": -(10**18)})),
        ("recording.json", lambda found: found["settings"].update({"streams": [1]})),
        ("recording.json", lambda found: found["model"].update({"workers": 10**7})),
    ],
)
def test_figures_that_cannot_be_are_refused(
    folder: Path, name: str, change: Callable[[dict[str, Any]], object]
) -> None:
    edited(folder / name, change)
    with pytest.raises(UsageError, match="is damaged"):
        ArrivalsReplay(folder, "virtual", ReplayOptions(sources=()))


def test_a_folder_that_no_stream_can_be_named_is_none(folder: Path) -> None:
    for name in ("gate\x1b[2J", "two words", "x" * 65, "g\xe4te"):
        shutil.copytree(folder / "gate", folder / name)
    assert Recording(folder).streams == ["gate", "decisions"]


def test_a_stream_that_is_not_there_any_more_is_told_of(
    folder: Path, no_network: FakeDetector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "gate")
    assert main(["replay", "--arrivals", str(folder), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert "gate: nothing of it is in the recording" in capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["arrivals"]["absent"] == ["gate"]


def test_a_stream_may_have_any_name(folder: Path, no_network: FakeDetector, tmp_path: Path) -> None:
    """Also that of a file which a replay writes beside its results."""
    played(folder, tmp_path)
    assert [line["frame"] for line in lines(tmp_path / "decisions.jsonl")] == list(range(8))
    outcomes = lines(tmp_path / "arrivals.decisions.jsonl")
    assert sorted((line["stream"], line["frame"]) for line in outcomes) == [
        (name, number) for name in ("decisions", "gate") for number in range(8)
    ]


@pytest.mark.parametrize("adapter", ["os:system", "antigravity:geohash"])
def test_no_module_is_imported_because_a_recording_names_it(folder: Path, adapter: str) -> None:
    edited(folder / "recording.json", lambda found: found["settings"]["model"].update({"adapter": adapter}))
    with pytest.raises(UsageError, match=f"--adapter {adapter}"):
        ArrivalsReplay(folder, "virtual", ReplayOptions(sources=()))
    assert ArrivalsReplay(folder, "virtual", ReplayOptions(sources=(), adapter=adapter))._model.adapter == adapter


def test_a_model_that_came_with_a_recording_is_not_loaded_unasked(folder: Path) -> None:
    brought = folder / "model.pt2"
    brought.write_bytes(b"PK")
    edited(folder / "recording.json", lambda found: found["settings"]["model"].update({"path": str(brought)}))
    with pytest.raises(UsageError, match=f"--model {brought}"):
        ArrivalsReplay(folder, "virtual", ReplayOptions(sources=()))
    assert ArrivalsReplay(folder, "virtual", ReplayOptions(sources=(), model=str(brought)))._model.path == str(brought)
