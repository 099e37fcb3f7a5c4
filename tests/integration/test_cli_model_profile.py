# SPDX-License-Identifier: Apache-2.0
"""``pipeline model profile``: operators, the share of convolution, and a trace that a browser opens."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from pipeline.cli import main
from tests.learned import fitted
from tests.models import save, ultralytics_metadata

VIDEO = "pattern:?size=128x96&frames=8"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "model.pt"
    return save(fitted("resnet"), path, ultralytics_metadata((128, 128), {0: "r", 1: "g", 2: "b"}))


def test_operators_shares_and_the_trace(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--frames", VIDEO, "--count", "4", "--out", str(tmp_path), "--device", "cpu"]
    assert main(["model", "profile", str(model), "--json", *arguments]) == 0
    said, complaints = capfd.readouterr()
    assert complaints == "", "torch's own lines are not ours"
    assert "KINETO_LOG_LEVEL" not in os.environ
    report = json.loads(said)
    operators = {row["name"]: row for row in report["operators"]}
    assert sum(row["share"] for row in operators.values()) == pytest.approx(1.0, abs=1e-3)
    convolutions = [row for name, row in operators.items() if "conv" in name]
    assert max(row["calls"] for row in convolutions) == 11, "as many as the network has"
    assert 0.2 < report["convolution"] <= 1.0
    assert report["frames"] == 4
    assert min(report["first_ms"], report["second_ms"], report["steady_ms"]) > 0.0
    sum_ms = sum(row["cpu_ms"] for row in operators.values())
    assert 0.2 * report["profiled_ms"] < sum_ms < 1.2 * report["profiled_ms"], "one frame's, both of them"
    assert any(row["cpu_mb"] > 0.0 for row in operators.values())
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert any("conv" in str(event.get("name")) for event in trace["traceEvents"])


def test_in_words_into_a_numbered_folder(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["model", "profile", str(model), "--count", "2"]) == 0
    said = capsys.readouterr().out
    assert "convolution:" in said
    assert "first call" in said
    assert (tmp_path / "runs" / "1" / "trace.json").is_file()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_its_time_and_memory_count(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "profile", str(model), "--json", "--count", "4", "--out", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["device"].startswith("cuda")
    assert sum(row["device_ms"] for row in report["operators"]) > 0.0


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "profile", "none.pt"]) == 2
    assert "no such model file" in capsys.readouterr().err
