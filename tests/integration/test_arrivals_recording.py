# SPDX-License-Identifier: Apache-2.0
"""``run --record-arrivals``: what a run is given and how it decides lies on the disk, and costs the run nothing."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline.arrivals import Recorder
from pipeline.cli import main
from pipeline.errors import UsageError
from pipeline.events import Condition
from pipeline.testing import FakeDetector
from tests.arrivals import lines, processed, record
from tests.background import Background, until
from tests.daemons import JSONL, config, no_network
from tests.faults.camera import Access, Camera, HangsUp, Healthy, serving
from tests.faults.disks import files_up_to, in_child
from tests.faults.feeds import landscape
from tests.media import Media, media

__all__ = ["media", "no_network"]


def packets_in(path: Path) -> list[bytes]:
    options = {"fflags": "+noparse+nofillin"}
    with av.open(f"file:{path}", format="nut", options=options) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_packets_and_their_times_drops_and_a_reconnect(media: Media, tmp_path: Path, isolation: str) -> None:
    """A camera that hangs up after 20 frames, and comes back. It is the same wherever it is read."""
    camera = Camera("gate", landscape(media), fps=30, faults=[HangsUp(20), Healthy()])
    with serving(camera) as cameras:
        stream = {"name": "gate", "source": cameras.url("gate"), "isolation": isolation}
        run = record(tmp_path / "rec", [stream], lambda pipeline: processed(pipeline, "gate") >= 35)
    account = run.ledger.streams["gate"]
    folder = tmp_path / "rec" / "gate"
    log = lines(folder / "arrivals.jsonl")
    opened = [line for line in log if "opened" in line]
    assert [line["opened"] for line in opened] == [1, 2]
    assert opened[0] | {"at": 0} == {
        "opened": 1, "at": 0, "kind": "camera", "codec": "h264", "time_base": [1, 90000], "fps": None, "width": 0,
        "height": 0,
    }  # fmt: skip
    assert [line["cause"] for line in log if line.get("state") == "backoff"] == ["eof"]
    for number in (1, 2):
        kept = packets_in(folder / f"{number}.nut")
        told = [line for line in log if line.get("packet") == number]
        assert [len(packet) for packet in kept] == [line["size"] for line in told]
        assert told[0]["key"]
        times = [line["at"] for line in told]
        assert times == sorted(times)
    frames = lines(folder / "frames.jsonl")
    assert [line["frame"] for line in frames] == list(range(account.decoded))
    assert sum(line["outcome"] == "processed" for line in frames) == account.processed
    dropped = [line["outcome"] for line in frames if line["outcome"] != "processed"]
    assert {reason: dropped.count(reason) for reason in set(dropped)} == account.dropped
    assert [line["epoch"] for line in frames] == sorted(line["epoch"] for line in frames)
    for line in frames:
        marks = [line[mark] for mark in ("read", "decoded", "prepare", "prepared", "queued", "ended") if mark in line]
        assert marks == sorted(marks)
        assert "prepared" in line or "queued" in line, "or it was turned away before, or left to whoever took it"
    reads = {line["at"] for line in log if "packet" in line}
    assert {line["read"] for line in frames} <= reads, "a frame was read when its packet was"
    about = json.loads((tmp_path / "rec" / "recording.json").read_text())
    assert about["format"] == 1
    assert about["ended"]["state"] == "complete"
    assert (about["ended"]["packets"], about["ended"]["lost"]) == (len([line for line in log if "packet" in line]), 0)
    services = json.loads((tmp_path / "rec" / "services.json").read_text())
    assert {size: entry["count"] for size, entry in services.items()} == {
        str(size): count for size, count in run.ledger.batch_sizes.items()
    }


def test_a_recording_played_in_a_loop_has_a_segment_for_each_lap(media: Media, tmp_path: Path) -> None:
    clip = media.clip("mkv", count=8)
    stream = {"name": "clip", "source": str(clip), "loop": True, "pace": "realtime"}
    record(tmp_path / "rec", [stream], lambda pipeline: processed(pipeline, "clip") >= 12)
    with av.open(str(clip)) as file:
        whole = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    assert packets_in(tmp_path / "rec" / "clip" / "1.nut") == whole
    assert (tmp_path / "rec" / "clip" / "2.nut").exists()


def test_no_secret_is_in_it(media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_PASSWORD", "other-Hunter3")
    access = {"first": Access("viewer", "hunter2-Secret"), "second": Access("keeper", "other-Hunter3")}
    cameras = [Camera(name, landscape(media), fps=30, access=access[name]) for name in access]
    with serving(*cameras) as served:
        streams = [
            {"name": "first", "source": served.url("first", "viewer:hunter2-Secret")},
            {"name": "second", "source": served.url("second"), "username": "keeper", "password_env": "GATE_PASSWORD"},
            {"name": "gone", "source": served.url("gone", "viewer:hunter2-Secret")},
        ]
        record(tmp_path / "rec", streams, lambda run: min(processed(run, "first"), processed(run, "second")) >= 3)
    found = [path for path in (tmp_path / "rec").rglob("*") if path.is_file()]
    assert len(found) >= 8
    for path in found:
        for secret in (b"hunter2", b"Hunter3", b"viewer", b"keeper", b"GATE_PASSWORD"):
            assert secret not in path.read_bytes(), path


def test_a_disk_that_is_full_ends_the_recording_and_not_the_run(
    media: Media, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    camera = Camera("gate", landscape(media), fps=30)

    def body() -> None:
        with serving(camera) as cameras, files_up_to(40_000):
            stream = {"name": "gate", "source": cameras.url("gate")}
            recorder = Recorder(tmp_path / "rec", reserve_bytes=0)

            def lost_some(run: Any) -> bool:
                return recorder.lost > 5 and processed(run, "gate") >= 10

            run = record(tmp_path / "rec", [stream], lost_some, recorder=recorder)
        facts = recorder.facts()
        assert facts["state"] == "ended"
        assert "too large" in facts["reason"]
        assert facts["packets"] > 5
        assert run.ledger.streams["gate"].decoded > facts["packets"], "its camera was read on"
        said = [entry.message for entry in caplog.records if "recording in" in entry.message]
        assert len(said) == 1
        assert f"({facts['packets']} packets written)" in said[0]

    in_child(body)
    log = (tmp_path / "rec" / "gate" / "arrivals.jsonl").read_bytes()
    assert log.count(b'"packet"') > 5


@pytest.mark.parametrize(("limit", "why"), [({"limit_mb": 0}, "--record-limit"), ({"reserve_bytes": 1 << 60}, "free")])
def test_a_limit_ends_it_too(media: Media, tmp_path: Path, limit: dict[str, int], why: str) -> None:
    recorder = Recorder(tmp_path / "rec", **{"reserve_bytes": 0, **limit})
    stream = {"name": "clip", "source": str(media.clip("mkv", count=12)), "loop": True, "pace": "realtime"}
    run = record(tmp_path / "rec", [stream], lambda run: recorder.lost > 3, recorder=recorder)
    assert recorder.ended is not None
    assert why in recorder.ended
    assert run.ledger.streams["clip"].state == "stopped"


def test_a_stream_that_is_added_after_the_recording_ended_is_held_up_by_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "rec", reserve_bytes=0, limit_mb=0)
    recorder.open()
    until(lambda: recorder.ended is not None, "the end of the recording")
    Background(lambda: recorder.stream("late", "camera").at(Condition("connecting"))).result()
    recorder.close()
    assert recorder.lines_lost == 1
    assert not (tmp_path / "rec" / "late").exists()


def test_a_disk_that_hangs_holds_nobody_up(media: Media, tmp_path: Path) -> None:
    """What finds no room in the backlog is lost and counted, and the next packet says how many are missing."""
    recorder = Recorder(tmp_path / "rec", reserve_bytes=0, backlog_bytes=60_000)
    stuck, goes_on, asked = threading.Event(), threading.Event(), list[bool]()

    def hang() -> None:
        stuck.set()
        goes_on.wait(30)

    camera = Camera("gate", landscape(media), fps=60)

    def phases(run: Any) -> bool:
        if not stuck.is_set() and not asked and processed(run, "gate") >= 3:
            asked.append(True)
            recorder.put(hang)
        if recorder.lost > 3:
            goes_on.set()
        return goes_on.is_set() and b'"gap"' in (tmp_path / "rec" / "gate" / "arrivals.jsonl").read_bytes()

    with serving(camera) as cameras:
        stream = {"name": "gate", "source": cameras.url("gate")}
        run = record(tmp_path / "rec", [stream], phases, recorder=recorder)
    gaps = [line["gap"] for line in lines(tmp_path / "rec" / "gate" / "arrivals.jsonl") if "gap" in line]
    assert sum(gaps) == recorder.lost
    assert run.ledger.streams["gate"].decoded >= recorder.lost + 3, "its camera was read on"


def test_what_has_no_packets_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    streams = [{"name": "bars", "source": "pattern:?size=64x48&fps=60"}]
    record(tmp_path / "rec", streams, lambda run: processed(run, "bars") >= 2)
    assert "bars: its arrivals are not recorded: a test pattern has no packets" in caplog.text
    assert not (tmp_path / "rec" / "bars").exists()


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    with pytest.raises(UsageError, match="is not empty; --record-arrivals needs a new folder"):
        Recorder(tmp_path).open()
    with pytest.raises(UsageError, match="is not a folder"):
        Recorder(tmp_path / "old").open()
    if os.getuid():
        with pytest.raises(UsageError, match="cannot be written to"):
            Recorder(Path("/proc/rec")).open()


def test_the_daemon_records_and_reports(
    media: Media, no_network: FakeDetector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = media.clip("mkv", count=8)
    path = config(tmp_path, tmp_path / "none.pt", [f"name: clip, source: {clip}, pace: realtime"], [JSONL])
    arguments = ["run", str(path), "--quiet", "--json", "--record-arrivals", str(tmp_path / "rec")]
    assert main(arguments) == 0
    arrivals = json.loads(capsys.readouterr().out)["recording"]
    assert arrivals.pop("bytes") > 500
    assert arrivals == {
        "folder": str(tmp_path / "rec"), "state": "complete", "reason": None, "packets": 8, "lost": 0,
        "lines_lost": 0,
    }  # fmt: skip
    assert len(packets_in(tmp_path / "rec" / "clip" / "1.nut")) == 8
    assert main(arguments) == 2
    assert "is not empty; --record-arrivals needs a new folder" in capsys.readouterr().err
    assert main(["run", str(path), "--record-limit", "5"]) == 2
    assert "--record-limit needs --record-arrivals" in capsys.readouterr().err
