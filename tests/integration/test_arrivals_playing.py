# SPDX-License-Identifier: Apache-2.0
"""``replay --arrivals``: what was recorded comes again, at its pace or on a virtual clock, and is decided again."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest

from pipeline.arrivals import Recorder, Recording, Tape, Virtual
from pipeline.arrivals.connection import RecordedConnection
from pipeline.cli import main
from pipeline.frame import Detections, Result
from pipeline.ledger import StreamLedger
from pipeline.replaying import ArrivalsReplay
from pipeline.sinks import JsonlSink
from pipeline.sinks.paths import sink_error
from pipeline.sources import FileSource
from pipeline.sources.isolation.relay import Listener, Receiver, Relay
from pipeline.sources.opening import Limits
from pipeline.testing import FakeDetector, ListSink, one_box
from pipeline.threads import StopFlag
from tests.arrivals import busy, lines, processed, record
from tests.daemons import no_network
from tests.faults.camera import Camera, HangsUp, Healthy, serving
from tests.faults.feeds import landscape
from tests.media import B_FRAMES, Media, media

__all__ = ["media", "no_network"]

OF_THIS_MACHINE = ("created", "startup_s", "cpu_s", "cpu_process_s", "peak_rss_mb", "tracker")
"""What a report says of the computing, not of what was computed."""


class Recorded(NamedTuple):
    """A run that was recorded, and what it published."""

    folder: Path
    accounts: dict[str, StreamLedger]
    results: list[Result]


@pytest.fixture(scope="module")
def overloaded(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Two cameras at 30 fps, of which one hangs up and comes back, and a detector that does about 20 pictures a
    second."""
    folder, sink = tmp_path_factory.mktemp("overloaded") / "rec", ListSink()
    clip = landscape(media)
    faulty = Camera("gate", clip, fps=30, faults=[HangsUp(25), Healthy()])
    with serving(faulty, Camera("yard", clip, fps=30)) as cameras:
        streams = [{"name": name, "source": cameras.url(name)} for name in ("gate", "yard")]

        def enough(run: Any) -> bool:
            account = run.ledger.streams["gate"]
            return account.counters.reconnects == 1 and account.decoded >= 60 and processed(run, "yard") >= 20

        run = record(folder, streams, enough, detector=busy(0.035), sinks=[sink])
    return Recorded(folder, run.ledger.streams, sink.results)


@pytest.fixture
def play(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, no_network: FakeDetector
) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """``replay --arrivals FOLDER ...`` into a folder of ``tmp_path``: exit code, report, standard error."""
    monkeypatch.setattr("pipeline.report.save_html", lambda report, folder: folder / "report.html")  # takes a second

    def run(folder: Path, out: str, *more: str) -> tuple[int, dict[str, Any], str]:
        code = main(["replay", "--arrivals", str(folder), "--out", str(tmp_path / out), "--json", *more])
        said = capsys.readouterr()
        return code, json.loads(said.out), said.err

    return run


def of_frames(path: Path) -> dict[int, dict[str, Any]]:
    return {line["frame"]: line for line in lines(path)}


def test_two_virtual_runs_are_byte_identical(overloaded: Recorded, play: Any, tmp_path: Path) -> None:
    reports = []
    for out in ("one", "two"):
        code, report, _ = play(overloaded.folder, out)
        assert code == 0
        reports.append({key: value for key, value in report.items() if key not in OF_THIS_MACHINE})
    for name in ("gate.jsonl", "yard.jsonl", "arrivals.decisions.jsonl"):
        first = (tmp_path / "one" / name).read_bytes()
        assert first.count(b"\n") > 15
        assert first == (tmp_path / "two" / name).read_bytes()
    assert b"overflow" in (tmp_path / "one" / "arrivals.decisions.jsonl").read_bytes()
    assert reports[0] == reports[1]


def test_threads_that_compute_decide_nothing(
    overloaded: Recorded, play: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are as many as cores; how many workers share the frames by the clock is the recording's."""
    reports = []
    for cores in (1, 5):
        monkeypatch.setattr("pipeline.replaying.arrivals.allowed_cores", lambda cores=cores: cores)
        code, report, _ = play(overloaded.folder, f"on{cores}")
        assert code == 0
        reports.append({key: value for key, value in report.items() if key not in OF_THIS_MACHINE})
    for name in ("gate.jsonl", "yard.jsonl", "arrivals.decisions.jsonl"):
        assert (tmp_path / "on1" / name).read_bytes() == (tmp_path / "on5" / name).read_bytes()
    assert reports[0] == reports[1]
    assert reports[0]["model"]["workers"] == 1


@pytest.mark.parametrize(
    ("device", "tuned", "threads"), [("cpu", None, 5), ("cpu", {"choice": "frozen"}, 2), ("cuda:0", None, 2)]
)
def test_a_device_and_a_measured_choice_have_the_workers_that_there_were(
    monkeypatch: pytest.MonkeyPatch, device: str, tuned: dict[str, Any] | None, threads: int
) -> None:
    monkeypatch.setattr("pipeline.replaying.arrivals.allowed_cores", lambda: 5)
    replay: Any = SimpleNamespace(_model_info={"device": device, "tuned": tuned})
    assert ArrivalsReplay._threads(replay, 2) == threads


def test_a_full_disk_ends_a_play_once_no_output_is_whole(
    overloaded: Recorded, play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: JsonlSink, result: Result) -> None:
        raise sink_error("write", Path("gate.jsonl"), OSError(errno.ENOSPC, ""))

    monkeypatch.setattr(JsonlSink, "write", full)
    code, report, _ = play(overloaded.folder, "full")
    assert code == 1
    assert report["error"].startswith("the disk is full, and no output is whole any more")


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_ends_a_virtual_play(
    overloaded: Recorded, play: Any, monkeypatch: pytest.MonkeyPatch, no_network: FakeDetector, signals: int
) -> None:
    """The first one after what was read, the second one at once, whatever the network is doing."""
    heard = {name: threading.Event() for name in ("stop", "abort")}
    for name, event in heard.items():
        method = getattr(ArrivalsReplay, name)
        monkeypatch.setattr(
            ArrivalsReplay, name, lambda replay, method=method, event=event: (method(replay), event.set())
        )
    first = threading.Lock()

    def find(value: int) -> Detections:
        if first.acquire(blocking=False):
            for event in list(heard.values())[:signals]:
                os.kill(os.getpid(), signal.SIGINT)
                assert event.wait(30)
        return one_box(value)

    monkeypatch.setattr(no_network, "find", find)
    code, report, _ = play(overloaded.folder, "out")
    assert code == 130
    for name, stream in report["streams"].items():
        frames = stream["frames"]
        assert stream["state"] == "stopped"
        assert frames["decoded"] < overloaded.accounts[name].decoded, "it read no further"
        assert frames["decoded"] == frames["processed"] + sum(frames["dropped"].values())
        assert ("shutdown" in frames["dropped"]) <= (signals == 2)


def test_it_decides_as_the_run_did(overloaded: Recorded, play: Any, tmp_path: Path) -> None:
    """Tolerance: as many results to within a tenth of the frames, and two. Which frame of two that wait is pushed out
    depends on milliseconds that no recording holds, such as those that a thread waits for a core."""
    code, report, _ = play(overloaded.folder, "out", "--pace", "virtual")
    assert code == 0
    for name, account in overloaded.accounts.items():
        played = report["streams"][name]
        assert played["frames"]["decoded"] == account.decoded
        assert account.dropped["overflow"] > 5, "it was overloaded"
        least = account.processed - account.decoded / 10 - 2
        assert least <= played["frames"]["processed"] <= account.processed + account.decoded / 10 + 2
        compared = report["arrivals"]["streams"][name]
        assert compared["frames"] == account.decoded, "every frame was known by its packet"
        assert compared["then"] == {"processed": account.processed, **account.dropped}
    assert report["streams"]["gate"]["reconnects"] == 1
    decisions = lines(tmp_path / "out" / "arrivals.decisions.jsonl")
    published = [line["at"] for line in decisions if line["outcome"] == "processed"]
    assert published == sorted(published)
    assert sum(line["outcome"] == line["then"] for line in decisions) == sum(
        entry["same"] for entry in report["arrivals"]["streams"].values()
    )


def test_a_frame_is_what_it_was(overloaded: Recorded, play: Any, tmp_path: Path) -> None:
    """Of those that both runs published: number, time stamp, wall time of capture, epoch and detections."""
    play(overloaded.folder, "out")
    again = {name: of_frames(tmp_path / "out" / f"{name}.jsonl") for name in overloaded.accounts}
    both = [result for result in overloaded.results if result.frame in again[result.stream]]
    assert len(both) > 3  # which frame is the newest when one is taken depends on milliseconds
    assert {result.epoch for result in both if result.stream == "gate"} == {0, 1}
    for result in both:
        line = again[result.stream][result.frame]
        assert (line["pts"], line["epoch"], line["run"]) == (pytest.approx(result.pts, abs=2e-6), result.epoch, "run-1")
        assert result.wall_ns is not None
        assert datetime.fromisoformat(line["time"]).timestamp() == pytest.approx(result.wall_ns / 1e9, abs=0.05)
        found = [detection["confidence"] for detection in line["detections"]]
        assert found == pytest.approx(result.detections.confidence.tolist(), abs=1e-4)


def test_in_real_time_nothing_comes_before_its_time(overloaded: Recorded, play: Any, tmp_path: Path) -> None:
    code, report, _ = play(overloaded.folder, "out", "--pace", "realtime")
    assert code == 0
    first_ns = min(lines(overloaded.folder / name / "arrivals.jsonl")[0]["at"] for name in overloaded.accounts)
    for name, account in overloaded.accounts.items():
        told = report["streams"][name]
        assert (told["state"], told["frames"]["decoded"]) == ("finished", account.decoded)
        read = {line["frame"]: line["read"] for line in lines(overloaded.folder / name / "frames.jsonl")}
        decided = [line for line in lines(tmp_path / "out" / "arrivals.decisions.jsonl") if line["stream"] == name]
        assert len(decided) == account.decoded
        assert all(line["at"] >= read[line["frame"]] for line in decided)
    last_ns = max(line["read"] for line in lines(overloaded.folder / "yard" / "frames.jsonl"))
    assert report["wall_s"] >= (last_ns - first_ns) / 1e9
    assert report["streams"]["gate"]["reconnects"] == 1
    # This detector takes no time, so more is done than when it was recorded: here this machine decides.
    assert report["frames"] > sum(account.processed for account in overloaded.accounts.values())


def test_what_was_lost_when_the_process_was_killed_is_counted(overloaded: Recorded, play: Any, tmp_path: Path) -> None:
    """The last packets of segments and the last line of a log are torn; the connection after that is played as well."""
    folder = shutil.copytree(overloaded.folder, tmp_path / "torn")
    whole = lines(folder / "gate" / "arrivals.jsonl")
    for name, most in (("1.nut", -40), ("2.nut", -40)):
        path = folder / "gate" / name
        path.write_bytes(path.read_bytes()[:most])
    log = folder / "gate" / "arrivals.jsonl"
    log.write_bytes(log.read_bytes()[:-30])
    code, report, said = play(folder, "out", "--quiet")
    assert code == 0
    assert report["arrivals"]["torn"] == 1, "the other one has no line"
    packets = sum("packet" in line for line in whole)
    assert report["streams"]["gate"]["frames"]["decoded"] == packets - 2
    assert report["streams"]["yard"]["frames"]["decoded"] == overloaded.accounts["yard"].decoded
    assert "1 packet of the recording torn and left out" in said


def test_packets_that_could_not_be_recorded_are_told_of(overloaded: Recorded, play: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(overloaded.folder, tmp_path / "gaps")
    log = folder / "yard" / "arrivals.jsonl"
    kept = log.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(kept) if b'"key":false' in line)
    kept[at] = kept[at].replace(b'"key":false', b'"gap":7,"key":false')
    log.write_bytes(b"".join(kept))
    code, report, said = play(folder, "out", "--quiet")
    assert (code, report["arrivals"]["lost_then"]) == (0, 7)
    assert "7 packets could not be recorded" in said


def test_a_stream_that_waits_for_every_frame_loses_none(media: Media, play: Any, tmp_path: Path) -> None:
    """A recording in the part of a camera, with B-frames, in laps; the detector holds it up."""
    clip = media.clip("mkv", count=12, options=B_FRAMES)
    stream = {"name": "clip", "source": str(clip), "loop": True, "pace": "realtime", "policy": "every_frame"}
    sink = ListSink()
    record(tmp_path / "rec", [stream], lambda run: processed(run, "clip") >= 18, detector=busy(0.03), sinks=[sink])
    for pace in ("virtual", "realtime"):
        code, report, _ = play(tmp_path / "rec", pace, "--pace", pace)
        frames = report["streams"]["clip"]["frames"]
        assert (code, frames["processed"], frames["dropped"]) == (0, frames["decoded"], {})
        again = of_frames(tmp_path / pace / "clip.jsonl")
        for result in sink.results:
            line = again[result.frame]
            assert (line["pts"], line["epoch"]) == (pytest.approx(result.pts, abs=2e-6), result.epoch)


def test_other_options_decide_otherwise(overloaded: Recorded, play: Any) -> None:
    """What if: fewer frames asked for, and one more worker."""
    usual = play(overloaded.folder, "usual")[1]
    thinned = play(overloaded.folder, "thinned", "--fps", "5")[1]
    assert thinned["streams"]["yard"]["frames"]["decimated"] > 0
    assert sum(stream["frames"]["dropped"].get("overflow", 0) for stream in thinned["streams"].values()) < sum(
        stream["frames"]["dropped"].get("overflow", 0) for stream in usual["streams"].values()
    )
    more = play(overloaded.folder, "more", "--workers", "3")[1]
    assert more["frames"] > usual["frames"]
    assert len(more["busy_s"]["workers"]) > 1


def edited(folder: Path, **changes: Any) -> None:
    path = folder / "recording.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (shutil.rmtree, "there is no such folder"),
        (lambda folder: (folder / "recording.json").unlink(), "holds no recording of arrivals"),
        (lambda folder: edited(folder, format=99), "has format 99; this program plays format 1"),
        (lambda folder: edited(folder, settings=7), "is damaged"),
        (lambda folder: edited(folder, settings={"model": {"path": 3}, "streams": {}, "batch": {}}), "is damaged"),
        (lambda folder: (folder / "recording.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "services.json").write_text('{"0": 3}'), "is damaged"),
        (lambda folder: (folder / "services.json").unlink(), "--pace realtime plays it"),
        (lambda folder: [shutil.rmtree(folder / name) for name in ("gate", "yard")], "holds no packets"),
    ],
    ids=["missing", "empty", "version", "settings", "model", "torn", "services", "untimed", "streams"],
)
def test_what_cannot_be_played_is_refused_in_a_line(
    overloaded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], Any], says: str
) -> None:
    folder = shutil.copytree(overloaded.folder, tmp_path / "bad")
    spoil(folder)
    assert main(["replay", "--arrivals", str(folder), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert says in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name a SOURCE, or a recording with --arrivals DIR"),
        (["a.mp4", "--pace", "virtual"], "it needs --arrivals DIR"),
        (["a.mp4", "--arrivals", "rec"], "leave out the SOURCE"),
        (["--arrivals", "rec", "--pace", "asap"], "virtual (default) or realtime"),
        (["--arrivals", "rec", "--resume"], "--resume has no meaning for recorded arrivals"),
        (["--arrivals", "rec", "--show"], "--pace realtime leaves it free"),
    ],
)
def test_contradictions_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert main(["replay", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_model_that_is_gone_is_refused(
    overloaded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(overloaded.folder, tmp_path / "moved")
    about = json.loads((folder / "recording.json").read_text())
    about["settings"]["model"]["path"] = str(tmp_path / "gone.pt")
    edited(folder, settings=about["settings"])
    assert main(["replay", "--arrivals", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "gone.pt: no such model file" in capsys.readouterr().err


def test_a_model_that_is_another_one_by_now_is_warned_of(
    overloaded: Recorded, play: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(overloaded.folder, tmp_path / "older")
    edited(folder, model=json.loads((folder / "recording.json").read_text())["model"] | {"sha256": "ab12"})
    assert play(folder, "out")[0] == 0
    assert "builtin:people is another file than when this was recorded: sha256 was ab12" in caplog.text
    caplog.clear()
    play(folder, "other", "--model", "other.pt")
    assert "another file" not in caplog.text


CODECS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264": ("mp4", {"options": B_FRAMES}),
    "h264 with parameter sets in band": ("ts", {}),
    "hevc": ("mkv", {"codec": "libx265", "options": {"x265-params": "log-level=none"}}),
    "mpeg4": ("avi", {"codec": "mpeg4", "options": {}}),
    "mpeg2video": ("ts", {"codec": "mpeg2video", "options": {}}),
    "mjpeg": ("avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}}),
    "vp9": ("webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}}),
    "rawvideo": ("avi", {"codec": "rawvideo", "options": {}}),
}


class Afar:
    """Watches as a process of its own does: what it sees goes through a socket."""

    def __init__(self, receiver: Receiver) -> None:
        ours, self.line = socket.socketpair()
        self.listener, self.relay = Listener(ours, receiver), Relay(self.line)
        self.seen = 0

    def begin(self, opened: Any) -> None:
        self.relay.begin(opened)
        self.listener.take()
        self.seen += 1

    def packet(self, packet: Any, read_ns: int) -> None:
        self.relay.packet(packet, read_ns)
        self.listener.take()
        self.seen += 1

    def close(self) -> None:
        self.line.close()
        self.listener.end(self.seen)


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_comes_back_to_the_last_bit(media: Media, tmp_path: Path, codec: str, isolated: bool) -> None:
    suffix, options = CODECS[codec]
    source = FileSource(media.clip(suffix, count=9, **options))
    recorder = Recorder(tmp_path / "rec", reserve_bytes=0)
    recorder.open()
    watcher = recorder.stream("clip", "recording")
    afar = Afar(watcher)
    source.watch(afar if isolated else watcher)
    source.open(StopFlag())
    before = list(iter(source.read, None))
    source.close()
    afar.close()
    recorder.close()
    assert recorder.lost == 0
    log = lines(tmp_path / "rec" / "clip" / "arrivals.jsonl")
    tape, stop = Tape("clip", iter(log)), StopFlag()
    opened = tape.next_attempt()
    assert opened is not None
    clock = Virtual(cast("Recording", SimpleNamespace(wall_ns=0)))
    folder = tmp_path / "rec" / "clip"
    again = RecordedConnection(folder, tape, opened, clock, stop.set, Limits(), "none")
    again.open(StopFlag())
    after = list(iter(again.read, None))
    again.close()
    assert [capture.pts_s for capture in after] == [capture.pts_s for capture in before]
    assert len(after) == 9
    for one, other in zip(before, after, strict=True):
        for plane, same in zip(one.picture.planes, other.picture.planes, strict=True):
            np.testing.assert_array_equal(plane, same)
    assert stop.is_set(), "it was said that nothing comes after it"
