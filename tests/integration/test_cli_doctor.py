# SPDX-License-Identifier: Apache-2.0
"""``pipeline doctor``: findings in words and as data, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.host.cores import allowed_cores
from tests.models import Cells, save, ultralytics_metadata


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_this_environment_has_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert not [found for found in report["findings"] if found["severity"] == "fault"]


def test_a_warning_is_told_with_its_remedy_and_is_no_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(allowed_cores() + 3))
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "warning threads" in " ".join(said.split())
    assert "remedy: unset OMP_NUM_THREADS" in said
    assert all(
        line.startswith(("        remedy: ", "warning ", "note ")) for line in said.splitlines()
    )  # in a pipe whole
    assert main(["doctor", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "OMP_NUM_THREADS" in err


def test_a_fault_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.pt").write_text("no model")
    assert main(["doctor", str(tmp_path / "text.pt"), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    finding = report["findings"][-1]
    assert finding["name"] == "model"
    assert finding["remedy"] == "give a TorchScript or .pt2 file"
    assert "emedy" not in finding["found"], "it is told once, in its own place"


def test_a_good_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(Cells(), tmp_path / "model.pt", ultralytics_metadata((64, 64), {0: "r", 1: "g", 2: "b"}))
    assert main(["doctor", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("nothing wrong was found; looked at: two OpenCV builds, ")
    assert said.endswith(f", {path}")


@pytest.mark.parametrize("arguments", [["none.pt"], ["builtin:people", "--frames", "none.mp4"]])
def test_what_does_not_exist_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *arguments]) == 2
    assert "no such" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--frames", "--adapter"])
def test_what_is_only_for_a_model_is_not_passed_over(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", option, "none.mp4"]) == 2
    assert f"{option} belongs to a model: give its FILE too" in capsys.readouterr().err
