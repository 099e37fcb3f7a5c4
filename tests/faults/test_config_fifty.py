# SPDX-License-Identifier: Apache-2.0
"""Fifty streams and an operator who makes mistakes: faulty entries, broken files, swaps and storms of reloads, each
against the real daemon. The streams that nobody meant to touch lose no frame."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from tests.models import Cells, save
from tests.processes import TRACES, Running, awaited, daemon

__all__ = ["daemon"]

pytestmark = pytest.mark.timeout(300)  # each wait in it may take a minute beside other work

STREAMS = 50
RATE = 4
SOURCE = f"pattern:?size=64x48&fps={RATE}"
BAD = {
    "an unknown key": ("name: cam17, sorce: 'pattern:'", "streams[17].sorce", "did you mean 'source'?"),
    "a name given twice": (f"name: cam3, source: '{SOURCE}'", "streams[17].name", "streams[3] in line"),
    "a bad URL": ("name: cam17, source: 'gopher://10.0.0.17/s'", "streams[17].source", "rtsp"),
}
"""Instead of entry 17: what is wrong with it, where the message points, and what it says to help."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Cells(), tmp_path_factory.mktemp("model") / "cells.pt")


class File:
    """A streams.yaml with fifty streams, written anew for each change."""

    def __init__(self, folder: Path, model: Path, policy: str = "every_frame") -> None:
        self.path = folder / "streams.yaml"
        self.model = model
        self.policy = policy
        self.entries = {f"cam{n}": f"name: cam{n}, source: '{SOURCE}'" for n in range(STREAMS)}

    def text(self, entries: dict[str, str]) -> str:
        head = [
            f"model: {{path: {self.model}, input: 64, adapter: ultralytics, device: cpu}}",
            "batch: {max_size: 8, workers: 1}",
            f"defaults: {{policy: {self.policy}}}",
            "server: {listen: '127.0.0.1:0'}",
            "sinks: [{type: jsonl, path: 'out/{stream}.jsonl'}]",
            "streams:",
        ]
        return "\n".join([*head, *(f"  - {{{entry}}}" for entry in entries.values())]) + "\n"

    def write(self, **changes: str | None) -> None:
        """With some entries changed, added, or (None) left out."""
        entries = {**self.entries, **changes}
        self.path.write_text(self.text({name: entry for name, entry in entries.items() if entry is not None}))

    def written(self) -> int:
        """Streams of which the sink has something."""
        files = [self.path.parent / "out" / f"{name}.jsonl" for name in self.entries]
        return sum(file.exists() and file.stat().st_size > 0 for file in files)

    def frames(self, name: str) -> list[int]:
        """The frame numbers that the sink has of a stream, but for a line that is being written."""
        lines = (self.path.parent / "out" / f"{name}.jsonl").read_bytes().split(b"\n")[:-1]
        return [json.loads(line)["frame"] for line in lines]


@pytest.mark.parametrize("what", BAD)
def test_check_points_at_the_one_fault_among_fifty(
    what: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry, key, hint = BAD[what]
    file = File(tmp_path, model)
    file.write(cam17=entry)
    line, text = [(n, text) for n, text in enumerate(file.path.read_text().splitlines(), 1) if entry in text][-1]
    assert main(["check", str(file.path), "--offline"]) == 2
    (fault,) = [said for said in capsys.readouterr().err.splitlines() if "warning" not in said]
    where = fault.split(": ")[1]
    assert where.startswith(f"{file.path}:{line}:")
    assert 0 < int(where.rsplit(":", 1)[1]) <= len(text)
    assert f": {key}: " in fault
    assert hint in fault


def untouched_lose_nothing(file: File, report: dict[str, Any], names: list[str]) -> None:
    """By the ledger no frame was dropped on the way and no sink fell behind; and so it is in the files.

    What was lost is told by the place where it was: a stream that a reload touched has another life, one that it held
    up has dropped frames, and a disk that was too slow for this machine's load is no fault of the reload.
    """
    accounts = report["streams"]
    assert not [name for name in accounts if name.partition("~")[0] in names and "~" in name], "begun anew"
    dropped = {name: accounts[name]["frames"]["dropped_in"] for name in names}
    assert not any(dropped.values()), f"dropped, and where: {dropped}"
    (sink,) = report["sinks"].values()
    assert sink["lost"] == {}, "what its thread wrote too late, whatever was reloaded"
    for name in names:
        frames = file.frames(name)
        holes = [(a, b) for a, b in pairwise(frames) if b != a + 1]
        assert frames[:1] == [0], name
        assert not holes, f"{name} lost frames that nobody counted: {holes}"
        assert len(frames) == accounts[name]["frames"]["decoded"], name


@pytest.mark.slow
def test_a_tired_operator(daemon: Callable[..., Running], model: Path, tmp_path: Path) -> None:
    file = File(tmp_path, model)
    file.write(cam17=BAD["an unknown key"][0])
    run = daemon(file.path, "--out", str(tmp_path / "report"))

    def live() -> set[str]:
        return {name for name, stream in run.streams().items() if stream["state"] == "live"}

    def reload(expected: str) -> None:
        run.send(signal.SIGHUP)
        assert expected in run.until("reloaded|reload refused").string

    assert "streams[17].sorce" in run.until("warning: .*sorce")[0]
    run.until("detector ready")
    untouched = [f"cam{n}" for n in range(STREAMS) if n not in (17, 30, 31)]
    awaited(lambda: len(live()) == 49, "49 live streams")
    awaited(lambda: run.metric("pipeline_config_last_reload_success") == 0, "the metric's word of failure")
    told = run.streams()["cam17"]
    assert (told["state"], "sorce" in str(told["detail"])) == ("failed", True), "the operator sees which one, and why"
    awaited(lambda: file.written() == 49, "a line of each")  # a file is opened with the first one
    base = run.threads(), run.descriptors()

    def more() -> tuple[Counter[str], Counter[str]]:
        return run.threads() - base[0], run.descriptors() - base[1]

    def back() -> bool:
        now = run.threads().total(), run.descriptors().total()
        return now[0] <= base[0].total() + 1 and now[1] <= base[1].total() + 2

    # Each kind of mistake in one entry: 49 go on.
    for what in ("a name given twice", "a bad URL"):
        entry, key, _ = BAD[what]
        file.write(cam17=entry)
        reload("0 added, 0 changed, 0 removed, 49 untouched")
        assert f": {key}: " in run.log, "said with line and key, before the reload"
    file.write()
    reload("1 added, 0 changed, 0 removed, 49 untouched")
    awaited(lambda: len(live()) == 50, "50 live streams")
    awaited(lambda: run.metric("pipeline_config_last_reload_success") == 1, "the metric's word of success")

    # A file that is broken as a whole changes nothing.
    file.path.write_text(file.path.read_text() + "streams: [\n")
    run.send(signal.SIGHUP)
    run.until("reload refused, nothing was changed")
    run.until(r"error:   .*streams\.yaml:\d+:\d+: ")
    awaited(lambda: run.metric("pipeline_config_last_reload_success") == 0, "the metric's word of failure")
    awaited(lambda: run.metric("pipeline_config_reloads_total", outcome="refused") >= 1, "a refused reload is counted")
    assert run.metric("pipeline_config_reloads_total", outcome="done") >= 3

    # One added, one removed, one changed; then back.
    file.write(cam30=None, cam31=f"{file.entries['cam31']}, fps: 2", cam50=f"name: cam50, source: '{SOURCE}'")
    reload("1 added, 1 changed, 1 removed, 48 untouched")
    awaited(lambda: {"cam31", "cam50"} <= live(), "the new ones")
    awaited(lambda: "cam30" not in run.streams(), "the end of the removed one")

    # A hundred requests in a second are one or two reloads, or a few on a machine that is busy.
    before = run.log.count("reloaded: ")
    file.write()
    for _ in range(100):
        run.send(signal.SIGHUP)
        run.process.poll()
    run.until("1 added, 1 changed, 1 removed, 48 untouched")
    awaited(lambda: len(live()) == 50, "50 live streams")
    assert 1 <= run.log.count("reloaded: ") - before <= 5

    # Swapped by a rename, noticed without a signal.
    (tmp_path / "next").write_text(file.text({n: e for n, e in file.entries.items() if n != "cam30"}))
    os.replace(tmp_path / "next", file.path)
    assert "0 added, 0 changed, 1 removed, 49 untouched" in run.until("reloaded").string
    awaited(lambda: len(live()) == 49, "49 live streams")

    # No thread and no file is left of all that: one reader and one file per stream.
    awaited(back, lambda: f"an end of {more()}")
    assert not set(untouched) - live()
    code, log = run.end()
    assert code == 0, log
    assert not any(word in log for word in TRACES), log
    untouched_lose_nothing(file, json.loads((tmp_path / "report/report.json").read_text()), untouched)
    assert {stream for stream in untouched if len(file.frames(stream)) < 10} == set()


@pytest.mark.slow
def test_a_link_that_is_switched_is_noticed(daemon: Callable[..., Running], model: Path, tmp_path: Path) -> None:
    """As Kubernetes updates a ConfigMap, against the daemon itself."""
    for version, rate in (("v1", 4), ("v2", 5)):
        (tmp_path / version).mkdir()
        file = File(tmp_path / version, model)
        file.entries = {
            "a": file.entries["cam1"].replace("cam1", "a"),
            "b": f"name: b, source: '{SOURCE}', fps: {rate}",
        }
        file.write()
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "streams.yaml").symlink_to("data/streams.yaml")
    run = daemon(tmp_path / "streams.yaml")
    awaited(lambda: run.streams().get("b", {}).get("state") == "live", "a live stream")
    (tmp_path / "next").symlink_to("v2")
    os.replace(tmp_path / "next", tmp_path / "data")
    assert "0 added, 1 changed, 0 removed, 1 untouched" in run.until("reloaded").string
    code, log = run.end()
    assert code == 0, log
