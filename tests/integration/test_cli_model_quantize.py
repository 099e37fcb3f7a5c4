# SPDX-License-Identifier: Apache-2.0
"""``pipeline model quantize``: the file runs in ``replay``; what disagrees is refused and leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cli import main
from pipeline.detectors.loading.archive import read_archive
from pipeline.detectors.torch_messages import quiet
from pipeline.workshop.int8.graph import quantize_program
from pipeline.workshop.int8.quantize import NOTE
from tests.learned import film, fitted
from tests.models import NAMES, Cells, save, tiny_ssd, ultralytics_metadata

FACTS = ultralytics_metadata((128, 128), NAMES)


class Brittle(torch.nn.Module):
    """A detector whose boxes jump by up to 40 pixels when its layers compute a little otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = fitted("resnet")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.detector(x)
        return torch.cat((found[:, :2] + (found[:, :2] * 50.0).sin() * 40.0, found[:, 2:]), 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model.pt``, a small residual network, ``brittle.pt`` and ``clip.mp4``."""
    folder = tmp_path_factory.mktemp("quantize")
    film(folder / "clip.mp4")
    files: dict[str, Any] = {"config.txt": json.dumps(FACTS["config.txt"])}
    with quiet():
        for name, module in (("model.pt", fitted("resnet")), ("brittle.pt", Brittle())):
            traced = torch.jit.trace(module.eval(), torch.rand(1, 3, 128, 128))
            torch.jit.save(traced, str(folder / name), _extra_files=files)
    return folder


def quantize(folder: Path, out: Path, *more: str, model: str = "model.pt") -> int:
    clip = str(folder / "clip.mp4")
    return main(["model", "quantize", str(folder / model), "--frames", clip, "-o", str(out), *more])


def test_the_file_is_smaller_finds_the_same_and_runs(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8.pt"
    assert quantize(folder, out, "--min-agreement", "0.8", "--json") == 0
    said, complaints = capfd.readouterr()
    report = json.loads(said)
    assert complaints == ""
    assert report["kept"]
    assert report["matched"] >= 0.8
    assert report["agreement"]["detections"]["a"] >= 10
    assert (report["before"]["precision"], report["after"]["precision"]) == ("fp32", "int8")
    assert report["size_ratio"] > 2.5
    assert report["int8_operators"] >= 8
    archive = read_archive(out.read_bytes(), "int8.pt")
    assert archive.quantized
    assert json.loads(archive.side_files["config.txt"]) == FACTS["config.txt"]
    assert json.loads(archive.side_files[NOTE])["wanted"] == 0.8

    runs = tmp_path / "runs"
    code = main(["replay", str(folder / "clip.mp4"), "--model", str(out), "--out", str(runs), "--workers", "1"])
    assert code == 0
    assert "deprecated" not in capfd.readouterr().err
    assert json.loads((runs / "report.json").read_text())["model"]["precision"] == "int8"
    lines = [json.loads(line) for line in (runs / "clip.jsonl").read_text().splitlines()]
    assert {found["label"] for line in lines for found in line["detections"]} == {"red", "green", "blue"}


def test_what_disagrees_is_refused_and_leaves_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.workshop.int8.quantize.search", lambda attempt, *_: [attempt(frozenset(), "minmax")])
    out = tmp_path / "out.pt"
    assert quantize(folder, out, "--count", "8", model="brittle.pt") == 1
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    out.write_bytes(b"old")
    assert quantize(folder, out, "--count", "8", model="brittle.pt") == 1
    assert out.read_bytes() == b"old"
    assert quantize(folder, out, "--count", "8", "--force", model="brittle.pt") == 0
    assert "written" in capsys.readouterr().out
    assert out.stat().st_size > 10_000


def test_names_that_can_be_guessed_are_not_written_through(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.workshop.int8.quantize.search", lambda attempt, *_: [attempt(frozenset(), "minmax")])
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".out.pt.partial").symlink_to(victim)
    assert quantize(folder, tmp_path / "out.pt", "--count", "8", "--force") == 0
    assert victim.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.pt.partial", "out.pt", "victim"]


def test_a_result_that_is_no_detector_is_told_by_the_name_that_was_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.workshop.int8.quantize.search", lambda attempt, *_: [attempt(frozenset(), "minmax")])
    monkeypatch.setattr("pipeline.workshop.int8.quantize._save", lambda module, path, files: path.write_text("text"))
    assert quantize(folder, tmp_path / "out.pt", "--count", "8") == 1
    assert f"what would be {tmp_path / 'out.pt'}: this is a text file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_replaced_meanwhile_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else one would be converted and another one named as its source."""
    from pipeline.workshop.int8 import quantize as room

    model = tmp_path / "model.pt"
    model.write_bytes((folder / "model.pt").read_bytes())
    convertible = room._convertible

    def replaced(path: str | Path, sha256: str | None) -> bytes:
        data = convertible(path, sha256)
        model.write_bytes((folder / "brittle.pt").read_bytes())
        return data

    monkeypatch.setattr("pipeline.workshop.int8.quantize.check_convertible", lambda *_: None)
    monkeypatch.setattr("pipeline.workshop.int8.quantize._convertible", replaced)
    clip = str(folder / "clip.mp4")
    assert main(["model", "quantize", str(model), "--frames", clip, "-o", str(tmp_path / "out.pt")]) == 2
    assert "is pinned" in capsys.readouterr().err


def test_a_model_that_finds_nothing_cannot_be_judged(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize(folder, tmp_path / "out.pt", "--conf", "1") == 1
    assert "finds nothing in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "said"),
    [("builtin:people", "cannot be quantised"), ("none.pt", "no such model file"), ("same", "the model itself")],
)
def test_refusals(folder: Path, model: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "model.pt" if model == "same" else tmp_path / "out.pt"
    given = str(folder / "model.pt") if model == "same" else model
    arguments = ["--frames", str(folder / "clip.mp4"), "-o", str(out)]
    assert main(["model", "quantize", given, *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be converted is said before a frame is read."""

    def read(*_: object) -> None:
        raise AssertionError("the frames were read first")

    monkeypatch.setattr("pipeline.workshop.frames.sample", read)


@pytest.mark.usefixtures("unread")
def test_a_program_without_convolutions(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(Cells(), tmp_path / "cells.pt", FACTS)
    arguments = ["--frames", str(folder / "clip.mp4"), "-o", str(tmp_path / "out.pt")]
    assert main(["model", "quantize", str(model), *arguments]) == 1
    assert "no convolution" in capsys.readouterr().err


@pytest.mark.usefixtures("unread")
def test_a_scripted_torchvision_detector_is_refused_with_a_remedy(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(tiny_ssd(), tmp_path / "ssd.pt")
    arguments = ["--frames", str(folder / "clip.mp4"), "-o", str(tmp_path / "out.pt"), "--conf", "0.05", "--count", "4"]
    assert main(["model", "quantize", str(model), *arguments]) == 1
    assert "convert the backbone" in capsys.readouterr().err
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.usefixtures("unread")
def test_what_is_quantised_already_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (folder / "model.pt").read_bytes()
    int8 = quantize_program(data, lambda prepared: prepared(torch.rand(1, 3, 128, 128)))
    with quiet():
        torch.jit.save(int8, str(tmp_path / "int8.pt"))
    assert quantize(folder, tmp_path / "out.pt", model=str(tmp_path / "int8.pt")) == 1
    assert "quantised already" in capsys.readouterr().err
    assert not (tmp_path / "out.pt").exists()
