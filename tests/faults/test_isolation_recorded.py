# SPDX-License-Identifier: Apache-2.0
"""``--record-arrivals`` of a camera whose process is killed: what came before is there, what is missing is counted."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline import build
from pipeline.cli import main
from pipeline.sources import Isolation
from tests.arrivals import lines, processed, record
from tests.daemons import no_network
from tests.faults.camera import Camera, serving
from tests.faults.feeds import landscape
from tests.media import Media, media

__all__ = ["media", "no_network"]


@pytest.fixture
def homes(monkeypatch: pytest.MonkeyPatch) -> list[Isolation]:
    """The processes of the streams that are made."""
    made: list[Isolation] = []

    def remembered(*args: Any, **options: Any) -> Isolation:
        made.append(Isolation(*args, **options))
        return made[-1]

    monkeypatch.setattr(build.feeds, "Isolation", remembered)
    return made


def packets_in(path: Path) -> list[bytes]:
    with av.open(f"file:{path}", format="nut", options={"fflags": "+noparse+nofillin"}) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


def killing(homes: list[Isolation], after: int, enough: int) -> Callable[[Any], bool]:
    """Kill the process once, after so many results; done after so many."""
    killed: list[int] = []

    def phases(run: Any) -> bool:
        if not killed and processed(run, "gate") >= after:
            killed.append(homes[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)
        return bool(killed) and homes[0].started == 2 and processed(run, "gate") >= enough

    return phases


def test_a_process_that_is_killed_leaves_a_recording_that_plays(
    media: Media, homes: list[Isolation], no_network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.save_html", lambda report, folder: folder / "report.html")
    folder = tmp_path / "rec"
    with serving(Camera("gate", landscape(media), fps=30)) as cameras:
        stream = {"name": "gate", "source": cameras.url("gate"), "isolation": "process"}
        run = record(folder, [stream], killing(homes, 10, 25))
    log = lines(folder / "gate" / "arrivals.jsonl")
    assert [line["cause"] for line in log if line.get("state") == "backoff"] == ["crash"]
    assert [line["opened"] for line in log if "opened" in line] == [1, 2]
    lost = next(number for number, line in enumerate(log) if line.get("state") == "backoff")
    assert {line["packet"] for line in log[:lost] if "packet" in line} == {1}, "what it had sent comes before its end"
    for number in (1, 2):
        told = [line["size"] for line in log if line.get("packet") == number]
        assert [len(packet) for packet in packets_in(folder / "gate" / f"{number}.nut")] == told
        assert told
    decoded = run.ledger.streams["gate"].decoded
    played = [play(folder, tmp_path / out) for out in ("one", "two")]
    assert played[0] == played[1]
    assert len(re.findall(rb'"stream":"gate"', played[0][0])) >= 20
    frames = len(lines(tmp_path / "one" / "arrivals.decisions.jsonl"))
    packets = sum("packet" in line for line in log)
    assert decoded <= frames <= packets, "all that the run saw, and what its process had not handed over"


def play(folder: Path, out: Path) -> tuple[bytes, bytes]:
    """On a virtual clock: results and decisions."""
    assert main(["replay", "--arrivals", str(folder), "--out", str(out), "--quiet"]) == 0
    return (out / "gate.jsonl").read_bytes(), (out / "arrivals.decisions.jsonl").read_bytes()
