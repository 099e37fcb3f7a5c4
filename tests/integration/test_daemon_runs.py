# SPDX-License-Identifier: Apache-2.0
"""The daemon in the test's own process: what it refuses, its exit codes, status lines, and what later runs add."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import build
from pipeline import report as reports
from pipeline.cli import main
from pipeline.config import LoadedConfig
from pipeline.daemon import Daemon
from pipeline.daemon.shard import WHOLE, Shard
from pipeline.flow import Pipeline
from pipeline.testing import FakeDetector, ManualClock
from tests.daemons import GOP_OF_A_SECOND, JSONL, config, no_network, records
from tests.media import Media, media

__all__ = ["media", "no_network"]


PATTERN = "name: bars, source: 'pattern:?size=64x48&fps=200&frames=40', policy: every_frame"


def test_results_are_appended(no_network: FakeDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.daemon.outlets.PICTURES_WAITING", 256)  # the encoder may be slow here
    sinks = [JSONL, *(f"type: {kind}, path: 'out/{{stream}}.{kind}'" for kind in ("csv", "mot"))]
    sinks += ["type: video, path: 'out/{stream}.mp4'", "type: coco, path: out"]
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN], sinks)
    assert Daemon(path).run() == 0
    once = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert Daemon(path).run() == 0
    twice = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    (second,) = [name for name in twice if re.fullmatch(r"bars\.[0-9T-]+Z\.2\.mp4", name)]
    new = {second, "coco.2.json", "coco_images.2.json"}
    assert set(twice) == set(once) | new
    assert sum(name.endswith(".1.mp4") for name in once) == 1
    for name, content in once.items():
        assert twice[name].startswith(content), f"{name} lost what it held"
    assert len(twice["bars.csv"].splitlines()) == 1 + 2 * 40, "one header"
    assert len(twice["bars.mot"].splitlines()) == 2 * 40
    found = records(tmp_path / "out" / "bars.jsonl")
    assert [line["frame"] for line in found] == [*range(40), *range(40)]
    assert len({line["run"] for line in found}) == 2


def test_what_a_killed_run_left_of_its_coco_results_is_kept(no_network: FakeDetector, tmp_path: Path) -> None:
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN], ["type: coco, path: out"])
    parts = tmp_path / "out" / "coco.parts"
    parts.mkdir(parents=True)
    (parts / "old.part").write_bytes(b"[0,0.0,64,48,[[0,[1,2,3,4],0.5]]]\n[1,0.04,64,4")
    assert Daemon(path).run() == 0
    assert len(json.loads((tmp_path / "out" / "coco.json").read_text())) == 1
    assert len(json.loads((tmp_path / "out" / "coco.2.json").read_text())) == 40
    assert not parts.exists()


def test_paths_start_at_the_folder_of_the_file(
    no_network: FakeDetector, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    clip = media.clip("mkv", count=40, options=GOP_OF_A_SECOND)
    (tmp_path / "here.mkv").write_bytes(clip.read_bytes())
    path = config(tmp_path, tmp_path / "none.pt", ["name: clip, source: here.mkv"], ["type: csv, path: deep/er.csv"])
    assert Daemon(path).run() == 0
    assert len((tmp_path / "deep" / "er.csv").read_text().splitlines()) == 41


def test_skip_auto_holds_the_asked_rate_with_fewer_frames_decoded(
    no_network: FakeDetector, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = media.clip("mkv", count=500, options=GOP_OF_A_SECOND)
    kept: dict[str, Any] = {}
    monkeypatch.setattr("pipeline.daemon.main_loop.exit_code", lambda ledger, **how: kept.update(ledger.streams) or 0)
    streams = [f"name: {skip}, source: {clip}, fps: 1, skip: {skip}" for skip in ("auto", "none")]
    assert Daemon(config(tmp_path, tmp_path / "none.pt", streams, [JSONL])).run() == 0
    pts = {name: [line["pts"] for line in records(tmp_path / "out" / f"{name}.jsonl")] for name in kept}
    assert pts["auto"] == pts["none"] == pytest.approx([float(second) for second in range(20)], abs=0.002)
    assert (kept["none"].decoded, kept["none"].counters.skipped) == (500, 0)
    assert (kept["auto"].decoded, kept["auto"].counters.skipped) == (116, 384)


def test_status_lines(no_network: FakeDetector, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def test_many_streams_have_two_lines(
    no_network: FakeDetector, media: Media, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pattern = PATTERN.replace("fps=200", "fps=40")
    streams = [pattern.replace("name: bars", f"name: bars{number}") for number in range(5)]
    missing = f"name: away, source: {tmp_path / 'nothing.mp4'}"
    with caplog.at_level(logging.INFO):
        Daemon(config(tmp_path, tmp_path / "none.pt", [*streams, missing], [JSONL]), status_every_s=0.1).run()
    said = [record.getMessage() for record in caplog.records if " streams live" in record.getMessage()]
    assert len(said) >= 3
    assert any(
        re.fullmatch(r"5 of 6 streams live, \d+ results, latency p99 at most \d+ ms \(bars\d\)", line) for line in said
    ), said
    assert sum(int(re.findall(r"(\d+) results?\b", line)[0]) for line in said) == 5 * 40
    away = [record.getMessage() for record in caplog.records if record.getMessage().startswith("not live: ")]
    assert away[0].startswith("not live: away (failed: ")
    assert len(away) <= len(said)
    assert not any(re.match(r"bars\d: live", record.getMessage()) for record in caplog.records)


def test_a_frame_over_its_budget_is_told_while_it_runs(
    no_network: FakeDetector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = f"{PATTERN.replace('fps=200', 'fps=40')}, latency_budget_ms: 0.001"
    with caplog.at_level(logging.INFO):
        assert Daemon(config(tmp_path, tmp_path / "none.pt", [stream], [JSONL])).run() == 0
    said = [record for record in caplog.records if "its budget is" in record.getMessage()]
    assert 1 <= len(said) <= 3, "one a second, of one second"
    assert re.match(r"bars: frame \d+ took [\d.]+ ms, its budget is 0\.001 ms: [a-z]+ ", said[0].getMessage())
    assert said[0].levelno == logging.WARNING


class Hurried(ManualClock):
    """Every look at it takes three seconds."""

    def now_ns(self) -> int:
        self.advance(3_000_000_000)
        return super().now_ns()


def test_the_first_status_line_comes_after_seconds_not_after_a_minute(
    no_network: FakeDetector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN.replace("fps=200", "fps=40")], [JSONL])
    with caplog.at_level(logging.INFO):
        assert Daemon(path, clock=Hurried()).run() == 0
    said = [text for text in caplog.messages if text.startswith("bars: ")]
    # On a slow machine there are more looks at the clock, and so more than one line of a kind.
    assert list(dict.fromkeys(text.split(",")[0] for text in said)) == ["bars: live", "bars: finished"]


def test_a_run_ends_with_its_tables_and_leaves_reports_where_they_are_wanted(
    no_network: FakeDetector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN, PATTERN.replace("bars", "more")], [JSONL])
    assert main(["run", str(path), "--out", str(tmp_path / "reports" / "today")]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    tables = err[err.index("stream  ") :].splitlines()
    assert [line.split()[:3] for line in tables[1:3]] == [[name, "finished", "40"] for name in ("bars", "more")]
    assert any(line.startswith("all 2 streams, ms") for line in tables)
    assert any(line.split()[:4] == ["end", "to", "end", "80"] for line in tables)
    written = next(
        line for line in tables if line.endswith(": bars.jsonl, more.jsonl, bars.events.jsonl, more.events.jsonl")
    )
    assert written.startswith("outputs in ")
    assert tables[-1] == f"outputs in {tmp_path}/reports/today/: report.json, report.html"
    report = json.loads((tmp_path / "reports" / "today" / "report.json").read_text())
    assert (report["command"], report["frames"], report["error"]) == ("run", 80, None)
    for stream in report["streams"].values():
        frames = stream["frames"]
        assert frames["decoded"] == frames["processed"] + sum(frames["dropped"].values()) + frames["decimated"] == 40
    assert (tmp_path / "reports" / "today" / "report.html").read_text().startswith("<!doctype html>")

    assert main(["run", str(path), "--quiet", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["frames"], err) == (80, "")
    (tmp_path / "file").touch()
    assert main(["run", str(path), "--out", str(tmp_path / "file")]) == 2


@pytest.mark.unbalanced
def test_a_run_that_breaks_reports_what_it_had(
    no_network: FakeDetector, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.ledger.Ledger.unbalanced", lambda self: {"bars": 1})
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL])
    assert main(["run", str(path), "--json", "--quiet"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["frames"] == 40
    assert "unaccounted" in report["error"]
    assert "unaccounted" in err


@pytest.mark.parametrize(
    ("streams", "sinks", "code"),
    [
        ([PATTERN], [JSONL], 0),
        ([PATTERN, "name: none, source: none.mp4"], [JSONL], 3),
        (["name: none, source: none.mp4"], [JSONL], 1),
        ([PATTERN], [JSONL, "type: jsonl, path: /dev/full"], 1),
        ([PATTERN, "name: spare, source: none.mp4, enabled: false"], [JSONL], 0),
    ],
    ids=["all well", "one failed", "all failed", "a sink lost data", "disabled"],
)
def test_exit_codes_of_runs_that_end(
    no_network: FakeDetector, tmp_path: Path, streams: list[str], sinks: list[str], code: int
) -> None:
    assert Daemon(config(tmp_path, tmp_path / "none.pt", streams, sinks)).run() == code
    assert no_network.closed == 1


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


def test_a_sink_that_cannot_work_is_refused(
    no_network: FakeDetector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    assert main(["run", str(config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL]))]) == 2
    assert "sinks: cannot write into the folder" in capsys.readouterr().err


def test_a_signal_while_the_detector_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "detector", lambda model, max_batch, tuned: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    with caplog.at_level(logging.INFO):
        assert Daemon(config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL])).run() == 0
    assert "SIGTERM: stopped before anything ran" in caplog.messages
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / "out").exists()


def stop_and_wait_until_it_is_heard(daemon: Daemon) -> None:
    """In another thread than the main one, which hears it."""
    os.kill(os.getpid(), signal.SIGTERM)
    pause, deadline = threading.Event(), time.monotonic() + 20
    while not daemon.asked:
        assert time.monotonic() < deadline
        pause.wait(0.01)


def test_a_signal_that_comes_when_all_has_begun_stops_it_as_ever(
    no_network: FakeDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The main thread has not seen yet that the model is loaded."""
    begin = Daemon._begin

    def begun(daemon: Daemon, loaded: LoadedConfig) -> Any:
        pipeline = begin(daemon, loaded)
        stop_and_wait_until_it_is_heard(daemon)
        return pipeline

    monkeypatch.setattr(Daemon, "_begin", begun)
    daemon = Daemon(config(tmp_path, tmp_path / "none.pt", ["name: bars, source: 'pattern:?fps=30'"], [JSONL]))
    with caplog.at_level(logging.INFO):
        assert daemon.run() == 0
    assert "SIGTERM: stopping; a second one quits at once" in caplog.messages
    assert not any("before anything ran" in text for text in caplog.messages)
    assert no_network.closed == 1
    frames = daemon.accounts()["streams"]["bars"]["frames"]
    assert frames["decoded"] == frames["processed"] + sum(frames["dropped"].values())


def test_a_signal_while_the_model_is_loaded_begins_nothing_once_it_is(
    no_network: FakeDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(model: object, max_batch: int, tuned: object) -> FakeDetector:
        stop_and_wait_until_it_is_heard(daemon)
        return no_network

    monkeypatch.setattr(build, "detector", load)
    daemon = Daemon(config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL]))
    assert daemon.run() == 0
    assert not daemon.ready
    assert not (tmp_path / "out").exists()


def test_what_asks_a_daemon_for_something_ends_it_neither_before_it_listens_nor_while_its_report_is_written(
    no_network: FakeDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask() -> None:
        for number in (signal.SIGHUP, signal.SIGUSR1):
            os.kill(os.getpid(), number)
            asked.append(number)

    def parse(text: str) -> Shard:
        ask()
        return WHOLE

    def saved(report: object, folder: Path) -> Path:
        ask()
        return save_json(report, folder)

    monkeypatch.setattr(Shard, "parse", parse)
    save_json = reports.save_json
    monkeypatch.setattr(reports, "save_json", saved)
    numbers = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL])
    assert main(["run", str(path), "--shard", "0/1", "--out", str(tmp_path)]) == 0
    assert len(asked) == 4
    assert json.loads((tmp_path / "report.json").read_text())["frames"] == 40
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("signals", [1, 2])
def test_the_first_signal_does_not_cost_the_report_and_the_second_leaves(
    signals: int, no_network: FakeDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved(report: object, folder: Path) -> Path:
        for _ in range(signals):
            signal.raise_signal(signal.SIGTERM)
        return save_json(report, folder)

    save_json = reports.save_json
    monkeypatch.setattr(reports, "save_json", saved)
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL])
    code = main(["run", str(path), "--out", str(tmp_path)])
    assert code == (0 if signals == 1 else 128 + signal.SIGTERM)
    assert (tmp_path / "report.json").exists() == (signals == 1)


@pytest.mark.parametrize("later", [1, 2])
def test_the_second_signal_does_not_cost_the_report_where_it_comes_after_the_draining(
    later: int, no_network: FakeDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved(report: object, folder: Path) -> Path:
        for _ in range(later):
            signal.raise_signal(signal.SIGTERM)
        return save_json(report, folder)

    def joined(pipeline: Pipeline, timeout_s: float | None = None) -> bool:
        if not stopped:
            stopped.append(True)
            signal.raise_signal(signal.SIGTERM)
        return join(pipeline, timeout_s)

    stopped: list[bool] = []
    save_json, join = reports.save_json, Pipeline.join
    monkeypatch.setattr(reports, "save_json", saved)
    monkeypatch.setattr(Pipeline, "join", joined)
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL])
    code = main(["run", str(path), "--out", str(tmp_path)])
    assert code == (0 if later == 1 else 128 + signal.SIGTERM)
    assert (tmp_path / "report.json").exists() == (later == 1)


def test_a_signal_between_the_end_of_a_daemon_and_its_report_does_not_cost_it(
    no_network: FakeDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(daemon: Daemon) -> int:
        code = whole(daemon)
        signal.raise_signal(signal.SIGTERM)  # it does not listen any more
        return code

    whole = Daemon.run
    monkeypatch.setattr(Daemon, "run", run)
    path = config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL])
    assert main(["run", str(path), "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["frames"] == 40


def test_sigterm_before_it_listens_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Shard, "parse", lambda text: signal.raise_signal(signal.SIGTERM))
    assert main(["run", str(tmp_path / "streams.yaml"), "--shard", "0/1"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "pipeline: stopped\n"


def test_a_signal_while_the_detector_warms(
    no_network: FakeDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main thread waits for the workers then; they may take as long as they like."""
    monkeypatch.setattr("pipeline.daemon.loading.STOPPED_S", 0.2)
    warming = threading.Event()

    def warm(sizes: Sequence[int]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        warming.wait(20)

    monkeypatch.setattr(no_network, "warm", warm)
    daemon = Daemon(config(tmp_path, tmp_path / "none.pt", [PATTERN], [JSONL]))
    try:
        assert daemon.run() == 0
        assert not daemon.ready, "there is nothing to report"
    finally:
        warming.set()
