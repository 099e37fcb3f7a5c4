# SPDX-License-Identifier: Apache-2.0
"""Small streams.yaml files for the daemon, and what it wrote."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline import build
from pipeline.orphans import no_orphan
from pipeline.testing import FakeDetector

GOP_OF_A_SECOND = {"preset": "ultrafast", "qp": "8", "x264-params": "keyint=25:min-keyint=25:scenecut=0:threads=1"}


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


class Known(FakeDetector):
    """With what a daemon says of its detector."""

    startup_s: ClassVar[dict[str, float]] = {}

    def model_info(self) -> dict[str, str]:
        """As short as can be."""
        return {"device": "cpu"}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> FakeDetector:
    """What a daemon in the test's own process loads, whatever its file says."""
    made = Known()
    monkeypatch.setattr(build, "detector", lambda model, max_batch, tuned: made)
    return made


class Running:
    """A daemon and its log."""

    def __init__(self, path: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", str(path), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=no_orphan(),
        )
        self.log: list[str] = []

    def until(self, pattern: str) -> re.Match[str]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(pattern, line)
            if found is not None:
                return found
        raise AssertionError(f"{pattern!r} was never said: {''.join(self.log)}")

    def end(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, "".join(self.log) + err
