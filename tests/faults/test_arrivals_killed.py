# SPDX-License-Identifier: Apache-2.0
"""A daemon that is killed while it records what arrives leaves a recording that can be played."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import main
from tests.background import until
from tests.daemons import JSONL, config
from tests.faults.camera import Camera, HangsUp, Healthy, serving
from tests.faults.feeds import landscape
from tests.media import Media, media
from tests.models import Cells, save
from tests.processes import Running, daemon, hurried

__all__ = ["daemon", "media"]


@pytest.mark.slow
def test_what_a_killed_daemon_recorded_is_played(
    daemon: Callable[..., Running], media: Media, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(Cells(), tmp_path / "cells.pt")
    camera = Camera("gate", landscape(media), fps=30, faults=[HangsUp(25), Healthy()])
    frames = tmp_path / "rec" / "gate" / "frames.jsonl"
    with serving(camera) as cameras:
        path = config(tmp_path, model, [f"name: gate, source: '{cameras.url('gate')}'"], [JSONL])
        recording = daemon(path, "--record-arrivals", str(tmp_path / "rec"), program=hurried())
        recording.until("gate: live")
        until(lambda: frames.exists() and frames.read_bytes().count(b"\n") >= 45)
        recording.kill()
    reports = []
    for out in ("one", "two"):
        assert main(["replay", "--arrivals", str(tmp_path / "rec"), "--out", str(tmp_path / out), "--json"]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    gate = reports[0]["streams"]["gate"]
    assert gate["frames"]["decoded"] >= 45
    assert gate["reconnects"] == 1
    assert reports[0]["arrivals"]["torn"] <= 1
    assert reports[0]["arrivals"]["streams"]["gate"]["frames"] >= 44
    assert (tmp_path / "one" / "gate.jsonl").read_bytes() == (tmp_path / "two" / "gate.jsonl").read_bytes()
