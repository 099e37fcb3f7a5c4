# SPDX-License-Identifier: Apache-2.0
"""``pipeline run``: what it needs to start, what it survives, how it ends, and what it leaves behind."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import build
from pipeline.cli import main
from pipeline.daemon import Daemon
from pipeline.testing import FakeDetector
from tests.media import Media, media
from tests.models import Cells, save

__all__ = ["media"]

GOP_OF_A_SECOND = {"preset": "ultrafast", "qp": "8", "x264-params": "keyint=25:min-keyint=25:scenecut=0:threads=1"}
LIVE_KEYS = ["stream", "frame", "pts", "time", "width", "height", "detections"]
LIVE_KEYS += ["run", "epoch", "latency_ms", "dropped_before"]
SHIPPED = Path(__file__).parents[2] / "streams.yaml"
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
RUN = """
import logging, sys
from pathlib import Path
from pipeline.cli.running import guarded, logging_to_stderr
from pipeline.daemon import Daemon
def run():
    with logging_to_stderr(logging.INFO):
        return Daemon(Path(sys.argv[1]), status_every_s=0.2, grace_s=float(sys.argv[2])).run()
sys.exit(guarded(run))
"""
"""As the command does it, with a shorter pause between status lines."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Cells(), tmp_path_factory.mktemp("model") / "cells.pt")


def config(folder: Path, model: Path, streams: Sequence[str], sinks: Sequence[str], defaults: str = "") -> Path:
    path = folder / "streams.yaml"
    lines = [
        f"model: {{path: {model}, input: 64, adapter: ultralytics, device: cpu}}",
        "batch: {max_size: 2, workers: 1}",
    ]
    lines += [f"defaults: {{{defaults}}}"] if defaults else []
    lines += ["streams:", *(f"  - {{{stream}}}" for stream in streams)]
    lines += ["sinks:", *(f"  - {{{sink}}}" for sink in sinks)]
    path.write_text("\n".join(lines) + "\n")
    return path


JSONL = "type: jsonl, path: 'out/{stream}.jsonl'"


def records(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


class Process:
    """A daemon in a process of its own, whose log can be waited for."""

    def __init__(self, config: Path, grace_s: float = 10.0) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(config), str(grace_s)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.lines: list[str] = []

    def until(self, pattern: str) -> str:
        """Read the log up to a line with ``pattern``."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"{pattern!r} was never said: {''.join(self.lines)}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout and the whole log."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, "".join(self.lines) + err


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    running: list[Process] = []

    def starter(config: Path, grace_s: float = 10.0) -> Process:
        running.append(Process(config, grace_s))
        return running[-1]

    yield starter
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_whole_life(
    start: Callable[..., Process], media: Media, model: Path, tmp_path: Path, closed_port: int
) -> None:
    """Two good streams, one camera that is not there, one faulty entry and one full disk; then SIGTERM."""
    clip = media.clip("mkv", count=40, options=GOP_OF_A_SECOND)
    path = config(
        tmp_path,
        model,
        [
            "name: bars, source: 'pattern:?size=128x96&fps=30', fps: 15",
            f"name: clip, source: {clip}, loop: true, pace: realtime",
            f"name: gone, source: 'rtsp://viewer:hunter2-Secret@127.0.0.1:{closed_port}/stream'",
            "name: wrong, source: 'ftp://127.0.0.1/x'",
        ],
        [JSONL, "type: jsonl, path: /dev/full", "type: csv, path: 'out/{stream}.csv'", "type: coco, path: out"],
    )
    (tmp_path / "out").mkdir()
    whole = b'{"stream":"clip","frame":7,"pts":0.28}\n'
    (tmp_path / "out" / "clip.jsonl").write_bytes(whole + b'{"stream":"clip","fra')
    run = start(path)
    run.until(r"clip: live, \d+ results, [3-9]\d in all")
    run.until(r"bars: live, \d+ results, [2-9]\d in all")
    run.signal(signal.SIGTERM)
    code, out, err = run.end()
    assert (code, out) == (0, ""), err

    assert re.search(r"warning: .*streams\[3\]\.source: sources of this kind are not allowed", err)
    assert re.search(r"warning: gone: rtsp://127\.0\.0\.1:\d+/stream: cannot open: connection refused", err)
    assert err.count("warning: gone: ") == 1, "once, however often it is tried"
    assert re.search(r"gone: (backoff|connecting), 0 results", err)
    assert err.count("error: sink jsonl-1: cannot write /dev/full") == 1
    assert re.search(r"sink jsonl-1 lost results: \{'write_error': \d+\}", err)
    assert "SIGTERM: stopping" in err
    assert "unaccounted" not in err

    first, *live = (tmp_path / "out" / "clip.jsonl").read_bytes().splitlines(keepends=True)
    assert first == whole, "what was torn off is gone, what was whole is not"
    lines = {"clip": [json.loads(line) for line in live], "bars": records(tmp_path / "out" / "bars.jsonl")}
    for name, found in lines.items():
        assert len(found) >= 20
        for line in found:
            assert list(line) == LIVE_KEYS
            assert line["stream"] == name
            assert RFC3339.fullmatch(line["time"])
            stages = dict(line["latency_ms"])
            assert stages.pop("end_to_end") == pytest.approx(sum(stages.values()), abs=1e-6)
            assert set(stages) <= {"decode", "preprocess", "queue", "infer", "postprocess", "follow"}
        frames = [line["frame"] for line in found]
        assert frames == sorted(set(frames))
        assert sum(line["dropped_before"] for line in found) <= frames[-1] + 1 - len(found)
        assert [line["time"] for line in found] == sorted(line["time"] for line in found)
    assert lines["clip"][-1]["epoch"] == (len(live) - 1) // 40, "each lap is an epoch"
    assert len({line["run"] for found in lines.values() for line in found}) == 1
    assert [line["frame"] % 2 for line in lines["bars"][:10]] == [0] * 10, "15 of 30 frames per second"

    assert (tmp_path / "out" / "gone.jsonl").read_bytes() == b""
    images = json.loads((tmp_path / "out" / "coco_images.json").read_text())["images"]
    assert len(images) == sum(len(found) for found in lines.values())
    left = [err, *(path.read_text() for path in (tmp_path / "out").iterdir())]
    assert not any("hunter2" in text for text in left)


def test_the_second_signal_leaves_at_once(start: Callable[..., Process], model: Path, tmp_path: Path) -> None:
    """A sink that is stuck in the operating system: nobody reads the pipe that it opens."""
    os.mkfifo(tmp_path / "pipe")
    run = start(config(tmp_path, model, ["name: bars, source: 'pattern:?fps=30'"], ["type: jsonl, path: pipe"]))
    run.until("bars: live, [1-9]")
    run.signal(signal.SIGINT)
    run.until("stopping")
    run.signal(signal.SIGTERM)
    assert run.end()[0] == 128 + signal.SIGTERM


def test_what_cannot_be_drained_is_given_up(start: Callable[..., Process], model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    run = start(config(tmp_path, model, ["name: bars, source: 'pattern:?fps=30'"], ["type: jsonl, path: pipe"]), 0.5)
    run.until("bars: live, [1-9]")
    run.signal(signal.SIGTERM)
    code, _, err = run.end()
    assert code == 1
    assert "not drained within 0.5 s: write:jsonl" in err


def test_a_camera_that_never_answers_does_not_hold_the_stop_up(
    start: Callable[..., Process], model: Path, tmp_path: Path
) -> None:
    """libav waits out its time limit, here 60 s, and cannot be woken: the thread is left behind, nothing is lost."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/stream"
        streams = [f"name: deaf, source: '{url}', open_timeout_s: 60", "name: bars, source: 'pattern:?fps=30'"]
        run = start(config(tmp_path, model, streams, [JSONL]))
        run.until(r"bars: live, \d+ results, [1-9]")
        run.signal(signal.SIGTERM)
        code, _, err = run.end()
    assert code == 0
    assert "left behind: read:deaf\n" in err
    in_all = re.findall(r"bars: stopped, \d+ results, (\d+) in all", err)
    assert len(records(tmp_path / "out" / "bars.jsonl")) == int(in_all[-1])


def test_the_shipped_configuration_runs_as_it_stands(start: Callable[..., Process], tmp_path: Path) -> None:
    """Results and counted drops together are the five frames a second that it asks for."""
    clips = sorted((SHIPPED.parent / "sample_videos").glob("*.mp4"))
    if not clips:
        pytest.skip("sample_videos/ holds no clips")
    (tmp_path / "sample_videos").symlink_to(SHIPPED.parent / "sample_videos")
    (tmp_path / "streams.yaml").write_text(SHIPPED.read_text())
    run = start(tmp_path / "streams.yaml")
    for stream in ("plaza", "lobby"):
        run.until(rf"{stream}: live, \d+ results, (1\d|[2-9]\d) in all")
    run.signal(signal.SIGTERM)
    code, _, err = run.end()
    assert code == 0, err
    for stream in ("plaza", "lobby"):
        found = records(tmp_path / "out" / f"{stream}.jsonl")
        asked = 5 * (found[-1]["pts"] - found[0]["pts"])
        assert len(found) - 1 + sum(line["dropped_before"] for line in found[1:]) == pytest.approx(asked, abs=1.5)


class Detector(FakeDetector):
    """With what a daemon says of it."""

    def model_info(self) -> dict[str, str]:
        return {"device": "cpu"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Detector:
    """No network is loaded."""
    detector = Detector()
    monkeypatch.setattr(build, "detector", lambda model, max_batch: detector)
    return detector


PATTERN = "name: bars, source: 'pattern:?size=64x48&fps=200&frames=40', policy: every_frame"


def test_results_are_appended(fake: Detector, tmp_path: Path) -> None:
    sinks = [JSONL, *(f"type: {kind}, path: 'out/{{stream}}.{kind}'" for kind in ("csv", "mot"))]
    sinks += ["type: video, path: 'out/{stream}.mp4'", "type: coco, path: out"]
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN], sinks)
    assert Daemon(path).run() == 0
    once = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert Daemon(path).run() == 0
    twice = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    new = {"bars.2.mp4", "coco.2.json", "coco_images.2.json"}
    assert set(twice) == set(once) | new
    for name, content in once.items():
        assert twice[name].startswith(content), f"{name} lost what it held"
    assert len(twice["bars.csv"].splitlines()) == 1 + 2 * 40, "one header"
    assert len(twice["bars.mot"].splitlines()) == 2 * 40
    found = records(tmp_path / "out" / "bars.jsonl")
    assert [line["frame"] for line in found] == [*range(40), *range(40)]
    assert len({line["run"] for line in found}) == 2


def test_what_a_killed_run_left_of_its_coco_results_is_kept(fake: Detector, tmp_path: Path) -> None:
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN], ["type: coco, path: out"])
    parts = tmp_path / "out" / "coco.parts"
    parts.mkdir(parents=True)
    (parts / "old.part").write_bytes(b"[0,0.0,64,48,[[0,[1,2,3,4],0.5]]]\n[1,0.04,64,4")
    assert Daemon(path).run() == 0
    assert len(json.loads((tmp_path / "out" / "coco.json").read_text())) == 1
    assert len(json.loads((tmp_path / "out" / "coco.2.json").read_text())) == 40
    assert not parts.exists()


def test_paths_start_at_the_folder_of_the_file(
    fake: Detector, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    clip = media.clip("mkv", count=40, options=GOP_OF_A_SECOND)
    (tmp_path / "here.mkv").write_bytes(clip.read_bytes())
    path = config(tmp_path, tmp_path / "none.pt", ["name: clip, source: here.mkv"], ["type: csv, path: deep/er.csv"])
    assert Daemon(path).run() == 0
    assert len((tmp_path / "deep" / "er.csv").read_text().splitlines()) == 41


def test_skip_auto_holds_the_asked_rate_with_fewer_frames_decoded(
    fake: Detector, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = media.clip("mkv", count=500, options=GOP_OF_A_SECOND)
    kept: dict[str, Any] = {}
    monkeypatch.setattr(Daemon, "_verdict", lambda self, ledger: kept.update(ledger.streams) or 0)
    streams = [f"name: {skip}, source: {clip}, fps: 1, skip: {skip}" for skip in ("auto", "none")]
    assert Daemon(config(tmp_path, tmp_path / "none.pt", streams, [JSONL])).run() == 0
    pts = {name: [line["pts"] for line in records(tmp_path / "out" / f"{name}.jsonl")] for name in kept}
    assert pts["auto"] == pts["none"] == pytest.approx([float(second) for second in range(20)], abs=0.002)
    assert (kept["none"].decoded, kept["none"].counters.skipped) == (500, 0)
    assert (kept["auto"].decoded, kept["auto"].counters.skipped) == (116, 384)


def test_status_lines(fake: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN.replace("fps=200", "fps=40")], [JSONL])
    with caplog.at_level(logging.INFO):
        assert Daemon(path, status_every_s=0.1).run() == 0
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("bars: ")]
    assert len(said) >= 3
    assert re.fullmatch(
        r"bars: live, \d+ results, \d+ in all, last \d\.\d s ago, latency p50 \d+ ms, p99 \d+ ms", said[1]
    )
    assert re.fullmatch(r"bars: finished, \d+ results, 40 in all, last \d\.\d s ago", said[-1])
    assert sum(int(line.split(" results")[0].split()[-1]) for line in said) == 40


@pytest.mark.parametrize(
    ("streams", "sinks", "code"),
    [
        ([PATTERN], [JSONL], 0),
        ([PATTERN, "name: none, source: none.mp4"], [JSONL], 3),
        (["name: none, source: none.mp4"], [JSONL], 1),
        ([PATTERN], [JSONL, "type: jsonl, path: /dev/full"], 1),
        ([PATTERN, "name: off, source: none.mp4, enabled: false"], [JSONL], 0),
    ],
    ids=["all well", "one failed", "all failed", "a sink lost data", "disabled"],
)
def test_exit_codes_of_runs_that_end(
    fake: Detector, tmp_path: Path, streams: list[str], sinks: list[str], code: int
) -> None:
    assert Daemon(config(tmp_path, tmp_path / "none.pt", streams, sinks)).run() == code
    assert fake.closed == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "model: {conf: 1}\nbatch: {max_size: 0}\nstreams: [{name: a, source: 'pattern:'}]\n",
            ["model.conf", "batch.max"],
        ),
        (
            "streams: [{name: a, source: 'ftp://x'}, {name: b, source: 'pattern:', fps: 0}]\n",
            ["streams[0].source", "streams[1].fps"],
        ),
        ("streams: []\n", ["streams"]),
        ("streams: [{name: a, source: 'pattern:', enabled: false}]\n", ["no stream to run"]),
        ("model: {path: none.pt}\nstreams: [{name: a, source: 'pattern:'}]\n", ["none.pt"]),
        ("model: {path: streams.yaml}\nstreams: [{name: a, source: 'pattern:'}]\n", ["streams.yaml"]),
        ("- [", ["streams.yaml"]),
    ],
    ids=["global", "no valid stream", "none at all", "all disabled", "no model", "not a model", "not yaml"],
)
def test_what_is_refused(text: str, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text(text)
    assert main(["run", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(each in err for each in said), err
    assert "Traceback" not in err


def test_a_sink_that_cannot_work_is_refused(fake: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    assert main(["run", str(config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL]))]) == 2
    assert "sinks: cannot write into the folder" in capsys.readouterr().err


def test_a_signal_while_the_detector_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "detector", lambda model, max_batch: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    with caplog.at_level(logging.INFO):
        assert Daemon(config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL])).run() == 0
    assert "SIGTERM: stopped before anything ran" in caplog.messages
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / "out").exists()


def test_a_signal_while_the_detector_warms(fake: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread waits for the workers then; they may take as long as they like."""
    warming = threading.Event()

    def warm(sizes: Sequence[int]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        warming.wait(20)

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(fake, "warm", warm)
    monkeypatch.setattr(os, "_exit", leave)
    try:
        with pytest.raises(SystemExit) as left:
            Daemon(config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL])).run()
    finally:
        warming.set()
    assert left.value.code == 0
