# SPDX-License-Identifier: Apache-2.0
"""A replay onto a disk that fills up: said, counted, exit code 1, and made good by running it again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.disks import in_child, mount
from tests.media import Media, media
from tests.models import NAMES, Cells, save, ultralytics_metadata

__all__ = ["media"]


@pytest.mark.slow
def test_a_replay_onto_a_full_file_system(tmp_path: Path, media: Media) -> None:
    clips = [str(media.clip("mkv", count=150)), str(media.clip("mp4", count=150))]
    model = save(Cells(), tmp_path / "cells.pt", ultralytics_metadata((64, 64), NAMES))
    command = [sys.executable, "-m", "pipeline", "replay", *clips, "--model", str(model), "--workers", "1"]
    disk = tmp_path / "disk"

    def replay(*more: str) -> subprocess.CompletedProcess[str]:
        words = [*command, "--out", str(disk / "out"), *more]
        return subprocess.run(words, check=False, capture_output=True, text=True)

    def body() -> None:
        mount(disk, 1024)
        (disk / "out").mkdir()
        filler = disk / "filler"
        filler.write_bytes(bytes(980 << 10))
        cut = replay()
        assert cut.returncode == 1, cut.stderr
        assert "No space left on device (results are lost until there is room again)" in cut.stderr
        assert "; its files have gaps: replay once more" in cut.stdout
        assert "the disk is full, and no output is whole any more" in cut.stdout
        assert "stopped" in cut.stdout
        assert len(cut.stderr.splitlines()) < 15, "what comes and goes is counted"
        assert all(path.read_bytes()[-2:] in (b"}\n", b"") for path in (disk / "out").glob("*.jsonl"))
        filler.unlink()
        again = replay("--resume")
        assert (again.returncode, again.stderr) == (0, "")
        for path in (disk / "out").glob("*.jsonl"):
            assert [json.loads(line)["frame"] for line in path.read_bytes().splitlines()] == list(range(150))

    in_child(body)
