# SPDX-License-Identifier: Apache-2.0
"""Small streams.yaml files for the daemon, and what it wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline import build
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
