# SPDX-License-Identifier: Apache-2.0
"""``pipeline model compare`` from the command line to tables, JSON, pictures and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli import main
from tests.models import NAMES, Cells, save, ultralytics_metadata

VIDEO = "pattern:?size=128x96&frames=8&people=2"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    facts = ultralytics_metadata((64, 64), NAMES)
    return save(Cells(), folder / "a.pt", facts), save(Cells(grow=0.6), folder / "b.pt", facts)


def test_agreement_speed_size_and_pictures(
    models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    a, b = map(str, models)
    assert main(["model", "compare", a, b, VIDEO, "--frames", "4", "--json", "--out", str(out)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 4
    assert report["agreement"]["matched"]["0.75"] == 0.0
    assert report["agreement"]["detections"]["a"] == report["agreement"]["detections"]["b"] > 0
    assert {row["label"] for row in report["agreement"]["classes"]} <= set(NAMES.values())
    assert report["a"]["size_bytes"] == models[0].stat().st_size
    assert report["speedup"] > 0.0
    assert [entry["matched"] for entry in report["worst"]] == [0.0] * 4
    assert sorted(path.name for path in out.iterdir()) == ["compare.json", *(f"worst-{n}.png" for n in range(1, 5))]
    assert json.loads((out / "compare.json").read_text()) == report


def test_a_model_with_itself_in_words(
    models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    a = str(models[0])
    assert main(["model", "compare", a, a, VIDEO, "--frames", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"written: {out / 'compare.json'}\n" in said
    assert (out / "compare.json").is_file()
    assert "100.0 % of their boxes are the same" in " ".join(said.split())
    assert "1.000" in said


@pytest.mark.parametrize(
    ("position", "given", "said"),
    [(0, "none.pt", "no such model file"), (2, "none.mp4", "no such file"), (2, "rtsp://10.0.0.1/a", "live feed")],
)
def test_refusals(
    models: tuple[Path, Path], position: int, given: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*map(str, models), VIDEO]
    arguments[position] = given
    assert main(["model", "compare", *arguments]) == 2
    assert said in capsys.readouterr().err
