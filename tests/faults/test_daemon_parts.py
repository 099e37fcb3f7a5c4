# SPDX-License-Identifier: Apache-2.0
"""Parts of a running daemon that break: a sink, the detector's thread, the model; and what a stop does meanwhile."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import build
from pipeline.cli import main
from pipeline.config import StreamConfig
from pipeline.daemon import Daemon
from pipeline.errors import SinkError
from pipeline.flow.stream import Stream
from pipeline.frame import Batch, Capture, Result, StreamInfo
from pipeline.protocols import Source
from pipeline.testing import FakeDetector, ListSink
from pipeline.threads import StopFlag
from pipeline.timing import now_ns
from tests.daemons import JSONL, config, no_network, records
from tests.media import Media, media
from tests.models import Cells, HangsOnGrey, save
from tests.processes import TRACES, Running, awaited, daemon

__all__ = ["daemon", "media", "no_network"]

BARS = "name: bars, source: 'pattern:?size=64x48&fps=200&frames=40', policy: every_frame"
MORE = BARS.replace("bars", "more")
PATIENCE_S = 60.0
"""The machine may be busy; a stop that waits for the model or for a sink without end takes longer."""


def run(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    """Exit code, report and log of ``pipeline run``."""
    code = main(["run", str(path), "--json", "--quiet"])
    out, err = capsys.readouterr()
    report: dict[str, Any] = json.loads(out)
    for stream in report["streams"].values():
        frames = stream["frames"]
        assert frames["decoded"] == frames["processed"] + sum(frames["dropped"].values()) + frames["decimated"]
    return code, report, err


def whole(path: Path) -> bool:
    """Frames from the first on, without a hole; perhaps none, where the end came before the sink's turn."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    frames = [json.loads(line)["frame"] for line in lines]
    return frames == list(range(len(frames)))


def breaks_at(frame: int, error: Exception) -> Callable[[Result], None]:
    def fail(result: Result) -> None:
        if result.frame == frame:
            raise error

    return fail


def test_a_sink_that_breaks_is_closed_and_the_others_keep_everything(
    no_network: FakeDetector, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in = ListSink("plug-in", fail=breaks_at(5, KeyError("a fault of a plug-in")))
    made = build.sinks
    monkeypatch.setattr(build, "sinks", lambda configs, run_id: [*made(configs, run_id), plug_in])
    code, report, err = run(config(tmp_path, tmp_path / "none.pt", [BARS, MORE], [JSONL]), capsys)
    assert code == 1, "a sink lost data"
    assert report["sinks"]["plug-in"]["state"] == "failed"
    assert report["sinks"]["plug-in"]["lost"]["failed"] == 80 - len(plug_in.results)
    assert report["sinks"]["jsonl"]["written"] == 80
    assert "sink plug-in: 'a fault of a plug-in'" in err
    assert plug_in.events[-1] == "close"
    assert "close" not in plug_in.events[:-1]


def test_a_detector_whose_thread_dies_ends_the_daemon_for_its_supervisor(
    no_network: FakeDetector, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = no_network.submit

    def dies(batch: Batch) -> Any:
        if len(no_network.sizes) == 5:
            raise MemoryError("out of everything")
        return submit(batch)

    monkeypatch.setattr(no_network, "submit", dies)
    endless = [one.replace("&frames=40", "") for one in (BARS, MORE)]
    code, report, err = run(config(tmp_path, tmp_path / "none.pt", endless, [JSONL]), capsys)
    assert (code, report["error"]) == (1, "out of everything")
    assert "out of everything" in err
    for name in ("bars", "more"):
        assert report["streams"][name]["state"] == "stopped"
        assert whole(tmp_path / "out" / f"{name}.jsonl"), "what was written is in order"


SHORT_GRACE = """
import sys
from functools import partial
from pipeline import daemon
from pipeline.cli import main
daemon.Daemon = partial(daemon.Daemon, grace_s=float(sys.argv[2]))
sys.argv[1:] = ["run", sys.argv[1]]
sys.exit(main())
"""


@pytest.mark.parametrize("twice", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["once", "twice"])
def test_a_stop_while_the_model_hangs(
    daemon: Callable[..., Running], media: Media, tmp_path: Path, twice: bool
) -> None:
    """Once: the grace, then it leaves and says what did not end. Twice: at once."""
    model = save(HangsOnGrey(), tmp_path / "hangs.pt")
    path = config(tmp_path, model, [f"name: grey, source: {media.clip()}, loop: true"], [JSONL])
    path.write_text(path.read_text() + "server: {listen: '127.0.0.1:0'}\n")
    running = daemon(path, "60" if twice else "1", program=SHORT_GRACE)
    running.until("detector ready")
    awaited(lambda: running.streams().get("grey", {}).get("frames", {}).get("decoded", 0) > 2, "frames")
    began_ns = now_ns()
    running.send(signal.SIGTERM)
    running.until("SIGTERM: stopping")
    code, log = running.end(signal.SIGINT if twice else None)
    assert code == (128 + signal.SIGINT if twice else 1), log
    assert (now_ns() - began_ns) / 1e9 < PATIENCE_S
    assert ("not drained within 1 s" in log) is not twice
    assert "left behind: " in log
    assert not any(word in log for word in TRACES), log


@pytest.mark.slow
def test_under_load_a_stop_drains_everything(daemon: Callable[..., Running], tmp_path: Path) -> None:
    """More frames than it can serve, five sinks: what was taken in is written and closed, and the end is a good one."""
    model = save(Cells(), tmp_path / "cells.pt")
    streams = [f"name: cam{n}, source: 'pattern:?size=320x240&fps=100'" for n in range(6)]
    sinks = [JSONL, *(f"type: {kind}, path: 'out/{{stream}}.{kind}'" for kind in ("csv", "mot"))]
    sinks += ["type: video, path: 'out/{stream}.mp4'", "type: coco, path: out"]
    path = config(tmp_path, model, streams, sinks)
    path.write_text(path.read_text() + "server: {listen: '127.0.0.1:0'}\n")
    running = daemon(path, "--out", str(tmp_path / "report"))
    running.until("detector ready")
    awaited(lambda: running.metric("pipeline_frames_total", outcome="processed") > 200, "results")
    began_ns = now_ns()
    code, log = running.end()
    assert code == 0, log
    assert (now_ns() - began_ns) / 1e9 < PATIENCE_S
    assert not any(word in log for word in TRACES), log
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    for name, stream in report["streams"].items():
        frames = stream["frames"]
        assert frames["decoded"] == frames["processed"] + sum(frames["dropped"].values()) + frames["decimated"]
        assert "shutdown" not in frames["dropped"]
        found = records(tmp_path / "out" / f"{name}.jsonl")
        lost = report["sinks"]["jsonl"]["lost"].get("overflow", 0)
        assert frames["processed"] - lost <= len(found) <= frames["processed"]
    for sink in report["sinks"].values():
        assert sink["received"] == sink["written"] + sum(sink["lost"].values())
        assert set(sink["lost"]) <= {"overflow"}
    images = json.loads((tmp_path / "out" / "coco_images.json").read_text())["images"]
    assert len(images) == report["sinks"]["coco"]["written"]


@pytest.mark.parametrize(
    "error", [SinkError("cannot write out/bars.jsonl: no space left on the device"), KeyError("a fault of a plug-in")]
)
def test_a_required_sink_that_loses_a_result_ends_the_daemon(
    no_network: FakeDetector,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    from pipeline.sinks import CsvSink

    write = CsvSink.write

    def fails(self: CsvSink, result: Result) -> None:
        breaks_at(5, error)(result)
        write(self, result)

    monkeypatch.setattr(CsvSink, "write", fails)
    sinks = [JSONL, "type: csv, path: 'out/{stream}.csv', required: true"]
    endless = BARS.replace("&frames=40", "")
    code, report, err = run(config(tmp_path, tmp_path / "none.pt", [endless], sinks), capsys)
    assert code == 1
    assert report["error"] == f"sink csv is required and cannot keep a result: {error}"
    assert report["error"] in err
    assert report["sinks"]["csv"]["written"] == 5
    assert len((tmp_path / "out" / "bars.csv").read_text().splitlines()) == 1 + 5, "it was closed"
    assert whole(tmp_path / "out" / "bars.jsonl")


class Stuck:
    """A source whose reader never comes back, not even for a stop."""

    def __init__(self, inner: Source, go: threading.Event) -> None:
        self._inner = inner
        self._go = go
        self.counters = inner.counters
        self.truncation = None

    def open(self, stop: StopFlag) -> StreamInfo:
        return self._inner.open(stop)

    def read(self) -> Capture | None:
        self._go.wait()
        return None

    def close(self) -> None:
        self._inner.close()


@pytest.mark.timeout(60)
def test_a_failure_ends_the_daemon_also_where_a_reader_hangs(
    no_network: FakeDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.sinks import CsvSink

    go = threading.Event()
    feed = build.feed

    def feeds(settings: StreamConfig, *rest: Any, **more: Any) -> Stream:
        stream = feed(settings, *rest, **more)
        if settings.name == "more":
            stream.source = Stuck(stream.source, go)
        return stream

    monkeypatch.setattr(build, "feed", feeds)
    monkeypatch.setattr(CsvSink, "write", lambda self, result: breaks_at(5, SinkError("the disk is full"))(result))
    endless = [one.replace("&frames=40", "") for one in (BARS, MORE)]
    sinks = [JSONL, "type: csv, path: 'out/{stream}.csv', required: true"]
    running = Daemon(config(tmp_path, tmp_path / "none.pt", endless, sinks))
    try:
        with pytest.raises(SinkError, match="sink csv is required"):
            running.run()
    finally:
        go.set()
    assert running.accounts()["streams"]["more"]["state"] == "stopped"
