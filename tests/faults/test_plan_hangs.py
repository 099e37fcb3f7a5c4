# SPDX-License-Identifier: Apache-2.0
"""A model that never returns: planning ends, by itself with the reason, or when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.orphans import no_orphan
from tests.media import Media, media
from tests.models import HangsOnGrey, save, ultralytics_metadata

__all__ = ["media"]

FILES = ultralytics_metadata((64, 64), {0: "red", 1: "green", 2: "blue"})
PATIENCE_S = 90


def planning(media: Media, tmp_path: Path, timeout_s: float) -> subprocess.Popen[str]:
    model = save(HangsOnGrey(), tmp_path / "hangs.pt", FILES)
    path = tmp_path / "streams.yaml"
    path.write_text(
        f"model: {{path: {model}, timeout_s: {timeout_s}, device: cpu}}\n"
        f"streams: [{{name: grey, source: {media.clip()}}}]\n"
        f"sinks: [{{type: jsonl, path: '{tmp_path}/out/{{stream}}.jsonl'}}]\n"
    )
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "plan", path, "--out", tmp_path / "offer", "--measure", "0.3", "--debug"],
        stderr=subprocess.PIPE, text=True, preexec_fn=no_orphan(),
    )  # fmt: skip


@pytest.mark.slow
def test_a_model_that_hangs_ends_a_plan(media: Media, tmp_path: Path) -> None:
    plan = planning(media, tmp_path, 1)
    try:
        said = plan.communicate(timeout=PATIENCE_S)[1]
    finally:
        plan.kill()
    assert plan.returncode == 1
    assert "the model has not answered for" in said.splitlines()[-1]
    assert not (tmp_path / "offer").exists()


@pytest.mark.slow
def test_who_stops_a_plan_does_not_wait_for_the_model(media: Media, tmp_path: Path) -> None:
    plan = planning(media, tmp_path, 600)
    try:
        assert plan.stderr is not None
        assert any("measuring: grey" in line for line in plan.stderr)
        plan.send_signal(signal.SIGINT)
        assert plan.wait(30) == 130
    finally:
        plan.kill()
        plan.communicate()
