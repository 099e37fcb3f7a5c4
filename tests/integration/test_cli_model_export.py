# SPDX-License-Identifier: Apache-2.0
"""``pipeline model export``: what comes out runs here and does what the module did, or nothing comes out."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from pipeline.cli import main
from pipeline.detectors import build_detector
from pipeline.workshop.inspection.inspecting import inspect_model
from tests.media import Media, media
from tests.models import NAMES, Cells, CellsAsRows, FirstOnly, FixedShape, RaisesOnWhite, tiny_ssd

__all__ = ["media"]

HERE = "tests.integration.test_cli_model_export"


def cells() -> nn.Module:
    return Cells()


def rows() -> nn.Module:
    return CellsAsRows()


def first_only() -> nn.Module:
    return FirstOnly()


def fixed() -> nn.Module:
    return FixedShape(2, 64, 96)


def poisonous() -> nn.Module:
    return RaisesOnWhite()


def ssd() -> nn.Module:
    return tiny_ssd()


class PerPicture(nn.Module):
    """Goes through the batch picture by picture, with Python that cannot be scripted: a trace keeps the example's."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([Cells.forward(self._cells, x[n : n + 1]) for n in range(x.shape[0])])  # type: ignore[arg-type]

    def __init__(self) -> None:
        super().__init__()
        self._cells = Cells()


def per_picture() -> nn.Module:
    return PerPicture()


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.rand(x.size(0), 7, 40)


def never_the_same() -> nn.Module:
    return Random()


class DropsInTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = Cells()
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(self.drop(self.norm(x)))


def training() -> nn.Module:
    return DropsInTraining().train()


class Run(NamedTuple):
    code: int
    done: dict[str, Any]
    err: str


@pytest.fixture
def export(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``export("cells", "-o", "m.pt")``; torch's warnings are shown as to a user who wants to see them all."""
    monkeypatch.chdir(tmp_path)

    def run(what: str, *arguments: object) -> Run:
        what = what if ":" in what or what.startswith("ssdlite") else f"{HERE}:{what}"
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            code = main(["model", "export", what, *map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        return Run(code, json.loads(out), err)

    return run


def test_a_traced_detector_runs_here_and_says_what_it_is(export: Any, tmp_path: Path, media: Media) -> None:
    run = export("cells", "-o", "m.pt", "--input", "160,192", "--names", "red,green,blue", "--stride", 32)
    assert (run.code, run.err) == (0, "")
    done = run.done
    assert (done["method"], done["batch"], done["fixed_size"]) == ("trace", {"tried": [1, 2, 3], "fixed": None}, False)
    assert done["agreement"]["pictures"] == 10
    assert done["agreement"]["largest_difference"] == 0.0
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.pt"]
    detector = build_detector(tmp_path / "m.pt", device="cpu")
    assert detector.model_info()["adapter"] == done["detector"]["adapter"] == "ultralytics"
    assert (detector.spec.height, detector.spec.width) == (160, 192)
    assert detector.labels == NAMES
    told = inspect_model(tmp_path / "m.pt")
    assert told["sha256"] == done["sha256"]
    with zipfile.ZipFile(tmp_path / "m.pt") as archive:  # nothing in it comes from the temporary file's random name
        assert {name.partition("/")[0] for name in archive.namelist()} == {"archive"}
    assert told["metadata"]["files"]["pipeline.json"]["exported"]["origin"] == f"{HERE}:cells"
    assert told["warnings"] == []
    clip = media.clip()
    assert main(["replay", str(clip), "--model", "m.pt", "--limit", "2", "--out", "out", "--quiet"]) == 0


def test_rows_are_recognised_and_real_frames_come_from_a_video(export: Any, media: Media) -> None:
    clip = media.clip(texture=True, count=8)
    run = export("rows", "-o", "m.torchscript", "--input", "160", "--frames", clip)
    assert (run.code, run.done["detector"]["adapter"]) == (0, "rows")
    assert run.done["agreement"]["frames"] == f"frames of {clip}"


def test_what_depends_on_its_data_is_scripted(export: Any) -> None:
    run = export("poisonous", "-o", "m.pt", "--input", "64,64")
    assert (run.code, run.done["method"]) == (0, "script")
    assert "models.py:" in run.done["why"]


def test_a_detector_that_takes_a_list_is_scripted(export: Any, tmp_path: Path) -> None:
    run = export("ssd", "-o", "m.pt")
    assert (run.code, run.err, run.done["method"], run.done["input"]) == (0, "", "script", [64, 64])
    assert run.done["agreement"]["detections"] > 0
    assert run.done["detector"]["adapter"] == "torchvision"
    assert not torch.jit.load("m.pt").training
    refused = export("ssd", "-o", "m.pt2")
    assert refused.code == 1
    assert "takes a list of pictures" in refused.done["error"]["message"]
    assert not (tmp_path / "m.pt2").exists()


def test_a_trace_that_keeps_its_batch_is_made_for_one_picture_and_says_so(export: Any, tmp_path: Path) -> None:
    run = export("per_picture", "-o", "m.pt", "--input", "160")
    assert (run.code, run.done["method"], run.done["batch"]["fixed"]) == (0, "trace", 1)
    assert any("traced for batches of 1 only" in note for note in run.done["notes"])
    assert build_detector(tmp_path / "m.pt", device="cpu").max_batch == 1


def test_a_module_that_takes_one_batch_only(export: Any, tmp_path: Path) -> None:
    refused = export("fixed", "-o", "m.pt", "--input", "32,32")
    assert refused.code == 1
    assert "--batch N another batch" in refused.done["error"]["message"]
    assert list(tmp_path.iterdir()) == []
    run = export("fixed", "-o", "m.pt", "--input", "96x64", "--adapter", "ultralytics")
    assert (run.code, run.done["batch"]["fixed"], run.done["fixed_size"]) == (0, 2, True)
    detector = build_detector(tmp_path / "m.pt", device="cpu")
    assert (detector.verdict.fixed, detector.model_info()["adapter"]) == (2, "ultralytics")


def test_neighbours_that_change_a_picture_are_noted(export: Any) -> None:
    run = export("first_only", "-o", "m.pt", "--input", "160")
    assert run.code == 0
    assert any("neighbours" in note for note in run.done["notes"])


def test_a_module_in_training_mode_is_exported_in_evaluation_mode(export: Any, tmp_path: Path) -> None:
    run = export("training", "-o", "m.pt", "--input", "64,64")
    assert run.code == 0
    module = torch.jit.load(str(tmp_path / "m.pt"))
    picture = torch.rand(1, 3, 64, 64)
    assert torch.equal(module(picture), module(picture))
    assert torch.allclose(module(picture), training().eval()(picture))


def test_what_disagrees_is_not_kept(export: Any, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_text("the old one")
    for out in ("m.pt", "n.pt2"):
        run = export("never_the_same", "-o", out, "--input", "64,64")
        assert run.code == 1
        assert "something else than the original" in run.done["error"]["message"]
        assert len(run.err.splitlines()) == 1
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("m.pt", "the old one")]


def test_an_exported_program_takes_any_batch_and_carries_the_metadata(export: Any, tmp_path: Path) -> None:
    run = export("cells", "-o", "m.pt2", "--input", "64,96", "--adapter", "ultralytics")
    assert (run.code, run.err, run.done["method"], run.done["batch"]["fixed"]) == (0, "", "export", None)
    told = inspect_model(tmp_path / "m.pt2")
    assert told["metadata"]["adapter"] == "ultralytics"
    assert list(told["dynamic"].values()) == [[1, 64]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(tmp_path / "m.pt2").module()
    pictures = torch.rand(5, 3, 64, 96)
    assert torch.equal(module(pictures), Cells()(pictures))


def test_both_formats_of_one_module_agree(
    export: Any, media: Media, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in ("m.pt", "m.pt2"):
        assert export("cells", "-o", out, "--input", "64,96", "--adapter", "ultralytics").done["detector"] is not None
    clip = media.clip(count=6, texture=True)
    assert main(["model", "compare", "m.pt", "m.pt2", str(clip), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["agreement"]["detections"]["a"] > 0
    assert told["agreement"]["matched"]["0.9"] == 1.0


def test_a_program_whose_batch_cannot_be_left_open(export: Any) -> None:
    run = export("fixed", "-o", "m.pt2", "--input", "64,96")
    assert (run.code, run.done["batch"]["fixed"]) == (0, 2)


def test_a_lite_file_is_read_back(export: Any, tmp_path: Path) -> None:
    run = export("cells", "-o", "m.ptl", "--input", "64,64")
    assert (run.code, run.err, run.done["format"]) == (0, "", "ptl")
    assert any("optimised for mobile" in note for note in run.done["notes"])
    assert inspect_model(tmp_path / "m.ptl")["format"] == "lite"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["cells"], 2, "required: -o/--out"),
        (["cells", "-o", "m.onnx"], 2, "name of another format"),
        (["cells", "-o", "nowhere/m.pt"], 2, "cannot be written: No such file"),
        (["cells", "-o", "m.pt", "--adapter", "ultralytic"], 2, "did you mean ultralytics?"),
        (["cells", "-o", "m.pt", "--input", "0,5"], 2, "expected H,W or WIDTHxHEIGHT in pixels"),
        (["cells", "-o", "m.pt", "--input", "50,64", "--stride", "32"], 2, "multiples of the stride 32"),
        (["cells", "-o", "m.pt", "--input", "64", "--frames", "nowhere.mp4"], 2, "nowhere.mp4"),
        (["cells", "-o", "m.pt", "--input", "64", "--adapter", "yolov5"], 1, "--adapter yolov5 does not fit"),
        (["cells", "-o", "m.pt", "--method", "guess"], 2, "expected auto, trace, script"),
        (["celsl", "-o", "m.pt"], 2, "did you mean cells?"),
        (["ssd", "-o", "m.pt", "--method", "trace"], 2, "use script"),
    ],
)
def test_refusals_leave_nothing(arguments: list[str], code: int, said: str, export: Any, tmp_path: Path) -> None:
    run = export(*arguments)
    assert run.code == code
    assert said in run.done["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.pt"
    assert main(["model", "export", f"{HERE}:cells", "-o", str(out), "--input", "160"]) == 0
    said = capsys.readouterr().out
    assert f"pipeline replay VIDEO --model {out}" in said
    assert f"{out}: {HERE}:cells, its own weights, torchscript, " in said
    assert "  traced: no decision in it depends on the data\n" in said
    assert "  input 160x160, batches of any size (tried: 1, 2, 3)\n" in said
    assert re.search(r"read back and compared with the original on 10 pictures .* values, identical\n", said)


@pytest.mark.slow  # its smaller sibling is scripted above
def test_a_detector_of_torchvision_runs_in_replay(export: Any, media: Media, tmp_path: Path) -> None:
    run = export("ssdlite320_mobilenet_v3_large", "--weights", "none", "--num-classes", 3, "-o", "m.pt")
    assert (run.code, run.err) == (0, "")
    assert (run.done["method"], run.done["input"]) == ("script", [320, 320])
    assert run.done["agreement"]["detections"] > 100
    assert "random" in run.done["notes"][0]
    clip = media.clip()
    assert main(["replay", str(clip), "--model", "m.pt", "--limit", "2", "--out", "out", "--conf", "0.01"]) == 0
    lines = (tmp_path / "out" / f"{clip.stem}.jsonl").read_text().splitlines()
    assert len(lines) == 2
