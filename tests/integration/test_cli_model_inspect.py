# SPDX-License-Identifier: Apache-2.0
"""``pipeline model`` and its verb ``inspect``, from words to exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cli import main
from pipeline.cli.model import VERBS
from tests.models import save, save_cells


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_cells(tmp_path)


def spoken(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = spoken(capsys, "model", "--help")
    assert (code, err) == (0, "")
    assert re.findall(r"^  (\w+)   ", out.split("verbs:")[1].split("common options:")[0], re.MULTILINE) == list(VERBS)
    assert spoken(capsys, "model")[:2] == (2, out)
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_of_each_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = spoken(capsys, "model", verb, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("examples:\n  pipeline model ")
    assert {"--json", "--quiet", "--help"} <= set(re.findall(r"--[a-z]+", out))
    assert spoken(capsys, "help", "model", verb)[1] == out
    assert spoken(capsys, "model", "help", verb)[1] == out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["inpsect", "a.pt"], "unknown verb 'inpsect'; did you mean inspect?"),
        (["zzz"], "expected one of inspect, export"),
        (["--json", "inspect"], "options follow the verb: pipeline model inspect --json"),
        (["detector.pt"], "pipeline model inspect detector.pt"),
        (["inspect"], "required: FILE"),
        (["inspect", "a.pt", "--cod"], "did you mean --code?"),
    ],
)
def test_refusals_name_the_remedy(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = spoken(capsys, "model", *arguments)
    assert code == 2
    assert expected in err
    assert len(err.splitlines()) == 2


def test_a_file_is_described(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = spoken(capsys, "model", "inspect", model)
    assert (code, err) == (0, "")
    assert "forward       (x: Tensor) -> Tensor" in out
    assert "config.txt, adapter ultralytics, input 64x64 only, stride 32" in out
    assert "classes       3: red, green, blue" in out
    assert spoken(capsys, "model", "inspect", model, "--quiet") == (0, "", "")


def test_code_and_probe(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = spoken(capsys, "model", "inspect", model, "--code", "--probe")[1]
    assert "# __torch__/tests/models" in out
    assert "  def forward(self: __torch__.tests.models." in out
    assert "probe         ultralytics, input 64x64, fp32 on " in out
    assert "is shown      RGB, grey levels divided by 255, letterbox on 114, float32 NCHW" in out
    assert "tried         finite outputs, the same picture again" in out
    assert "shapes        this one only" in out
    assert re.search(r"a picture     [\d.]+ ms in batches of 1, ", out)


def test_as_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = spoken(capsys, "model", "inspect", model, "--probe", "--json")
    assert (code, err) == (0, "")
    told: dict[str, Any] = json.loads(out)
    assert told["probe"]["sha256"] == told["sha256"]
    assert told["probe"]["labels"] == {"0": "red", "1": "green", "2": "blue"}
    assert told["format"] == "torchscript"


def test_what_cannot_be_probed_is_described_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(torch.nn.Identity(), tmp_path / "identity.pt")
    code, out, err = spoken(capsys, "model", "inspect", path, "--probe")
    assert code == 2
    assert "format        TorchScript" in out
    assert "  probe" not in out
    assert re.fullmatch(r"pipeline: .*identity\.pt: .+\n", err)
    code, out, err = spoken(capsys, "model", "inspect", path, "--probe", "--json")
    assert (code, len(err.splitlines())) == (2, 1)
    told = json.loads(out)
    assert told["format"] == "torchscript"
    assert err == f"pipeline: {told['probe']['error']}\n"


def test_sizes_are_width_x_height(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_cells(tmp_path, 64, 96)
    out = spoken(capsys, "model", "inspect", path, "--probe")[1]
    assert "ultralytics, input 96x64 only" in out
    assert "probe         ultralytics, input 96x64, fp32 on " in out


def test_what_is_no_model_is_refused_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "notes.pt").write_text("words\n")
    for path, said in ((tmp_path / "notes.pt", "a text file"), (tmp_path / "nowhere.pt", "no such model file")):
        code, out, err = spoken(capsys, "model", "inspect", path)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert said in err
