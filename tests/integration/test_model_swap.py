# SPDX-License-Identifier: Apache-2.0
"""``pipeline run`` as a process whose model is changed while it runs, with real TorchScript files."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import JSONL, records
from tests.models import NAMES, Cells, CellsAsRows, NanWhereRed, save, ultralytics_metadata
from tests.processes import Running, hurried

STREAMS = (
    "{name: steady, source: 'pattern:?size=128x96&fps=20', policy: every_frame}",
    "{name: wide, source: 'pattern:?size=160x90&fps=10', policy: every_frame}",
)


class Daemon(Running):
    """A daemon whose model is written into its file anew."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        self.path = folder / "streams.yaml"
        self.write(model)
        super().__init__(self.path, "--out", str(folder / "report"), program=hurried())
        self.until("detector ready")

    def write(self, model: str, streams: tuple[str, ...] = STREAMS) -> None:
        entries = "\n".join(f"  - {one}" for one in streams)
        self.path.write_text(
            f"model: {{{model}, device: cpu, confidence: 0.6, swap: {{frames: 8}}}}\n"
            "batch: {max_size: 2, workers: 1}\n"
            f"streams:\n{entries}\nsinks: [{{{JSONL}}}]\n"
        )

    def swap(self, model: str, until: str) -> str:
        """Write another model, ask for it, and wait for a line of the log."""
        self.write(model)
        self.send(signal.SIGHUP)
        return self.until(until).string

    def report(self) -> dict[str, Any]:
        """The end: nothing is lost, and everything is accounted for."""
        code, log = self.end()
        assert code == 0, log
        assert "Traceback" not in log
        report: dict[str, Any] = json.loads((self.folder / "report" / "report.json").read_text())
        for name, stream in report["streams"].items():
            frames = stream["frames"]
            assert frames["decoded"] == frames["processed"], (name, frames)
            assert frames["dropped"] == {}
            lines = records(self.folder / "out" / f"{name}.jsonl")
            assert [line["frame"] for line in lines] == list(range(len(lines))), "no hole"
            assert len(lines) == frames["processed"]
        return report


@pytest.fixture
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    save(Cells(), tmp_path / "first.pt", ultralytics_metadata((64, 64), NAMES))
    one = Daemon(tmp_path, "path: first.pt")
    yield one
    one.kill()


def test_models_of_another_size_classes_and_family_come_and_nothing_is_lost(daemon: Daemon) -> None:
    here = daemon.folder
    save(Cells(grow=0.9), here / "larger.pt", ultralytics_metadata((96, 128), {0: "rot", 1: "gruen", 2: "blau"}))
    save(CellsAsRows(), here / "rows.pt", {"pipeline.json": {"adapter": "rows", "names": ["r", "g", "b"]}})
    daemon.swap("path: larger.pt", "larger.pt is in use from here on")
    daemon.until("first.pt has served what was queued for it and is let go")
    daemon.swap("path: rows.pt, adapter: rows, input: 160", "rows.pt is in use from here on")
    daemon.until("larger.pt has served what was queued for it and is let go")
    for _ in range(2):  # the first line may count results of the model before
        daemon.until(r"steady: live, [1-9]\d* results?")
    report = daemon.report()
    swaps = report["model"]["swaps"]
    assert [(swap["state"], Path(swap["to"]).name) for swap in swaps] == [("done", "larger.pt"), ("done", "rows.pt")]
    assert report["model"]["path"].endswith("rows.pt")
    assert report["model"]["adapter"] == "rows"
    assert all(swap["compared"]["frames"] == 8 and swap["compared"]["streams"] == 2 for swap in swaps)
    labels: list[str] = []
    for line in records(here / "out" / "steady.jsonl"):
        labels += [found["label"] for found in line["detections"][:1]]
    models = [0 if label in NAMES.values() else 2 if len(label) == 1 else 1 for label in labels]
    assert models == sorted(models), "one after the other"
    assert set(models) == {0, 1, 2}


def test_what_is_not_fit_is_refused_the_old_one_runs_on_and_its_file_may_change(daemon: Daemon) -> None:
    here = daemon.folder
    (here / "garbage.pt").write_bytes(b"no model at all" * 100)
    save(NanWhereRed(), here / "open.pt", ultralytics_metadata((64, 64), NAMES))
    (here / "open.pt").chmod(0o666)
    refused = r"error: model swap \d+: refused, .*first.pt stays in use: "
    assert "no such model file" in daemon.swap("path: gone.pt", refused)
    assert "garbage.pt" in daemon.swap("path: garbage.pt", refused)
    assert "SHA-256" in daemon.swap(f"path: first.pt, sha256: '{'0' * 64}'", refused)
    assert "chmod o-w" in daemon.swap("path: open.pt", refused)
    (here / "open.pt").chmod(0o644)
    daemon.write("path: first.pt")
    daemon.send(signal.SIGHUP)
    daemon.until("2 untouched")
    save(Cells(grow=0.5), here / "new.pt", ultralytics_metadata((64, 64), NAMES))
    (here / "new.pt").replace(here / "first.pt")
    daemon.send(signal.SIGHUP)
    daemon.until("first.pt is in use from here on")
    report = daemon.report()
    *refusals, swap = report["model"]["swaps"]
    assert [one["state"] for one in refusals] == ["refused"] * 4
    assert all(one["reason"] for one in refusals)
    assert report["model"]["path"].endswith("first.pt")
    assert swap["sha256"] == report["model"]["sha256"]
    assert swap["compared"]["agreement"] < 0.5, "boxes of half the size"
