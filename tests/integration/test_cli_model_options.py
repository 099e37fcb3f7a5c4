# SPDX-License-Identifier: Apache-2.0
"""``--config`` and ``--adapter`` of the workshop: a model that says nothing of itself is usable in every command."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.cli import main
from pipeline.cli.model import compare as model_compare
from pipeline.cli.model import tune as model_tune
from pipeline.cli.model.options import add_model_options, model_config
from pipeline.cli.program.parser import Parser
from pipeline.detectors.torch_messages import quiet
from pipeline.errors import ConfigError, UsageError

VIDEO = "pattern:?size=192x128&frames=8&people=2"

HEAD = """
from dataclasses import dataclass
import numpy as np
from pipeline.detectors.adapter import Parsed
from pipeline.detectors.preprocessing import Preprocessing
from pipeline.detectors.suppress import finish
from pipeline.errors import InferenceError


@dataclass(frozen=True)
class GridHead:
    name: str = "grid_head"
    preprocessing: Preprocessing = Preprocessing(fit="stretch")
    classes: int = 1

    def check(self, outputs, size):
        if tuple(outputs.shape[:2]) != (size, 5):
            raise InferenceError("(size, 5, rows, columns) was expected")

    def parse(self, outputs, count, limits, spec):
        found = []
        for rows in outputs[:count].flatten(2).transpose(1, 2).float().cpu().numpy():
            found.append(finish(rows[:, 1:], rows[:, 0], np.zeros(len(rows), np.int64), limits, overlap=True))
        return Parsed(found, [0] * count)
"""


class Grid(nn.Module):
    """(B, 5, rows, columns) as no family has it: a score, the mean of all channels of a cell, and the cell."""

    def __init__(self) -> None:
        super().__init__()
        self.grey = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.grey.weight, 1.0 / 3.0)

    def forward(self, x: Tensor) -> Tensor:
        scores = nn.functional.avg_pool2d(self.grey(x), 32)
        rows, columns = scores.size(2), scores.size(3)
        left = (torch.arange(columns) * 32.0).view(1, 1, 1, -1).expand(x.size(0), 1, rows, columns)
        top = (torch.arange(rows) * 32.0).view(1, 1, -1, 1).expand(x.size(0), 1, rows, columns)
        return torch.cat((scores, left, top, left + 32.0, top + 32.0), 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``grid.pt``, which needs to be told its adapter and its input, and ``streams.yaml``, which tells them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "grid_head", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "grid_head.py").write_text(HEAD)
    with quiet():
        traced = torch.jit.trace(Grid().eval(), torch.rand(1, 3, 64, 96))
        torch.jit.save(traced, str(tmp_path / "grid.pt"))
    told = 'path: grid.pt, adapter: "grid_head:GridHead", input: [64, 96], names: [thing], confidence: 0.2, device: cpu'
    (tmp_path / "streams.yaml").write_text(f"model: {{{told}}}\n")
    return tmp_path


COMMANDS: dict[str, list[str]] = {
    "inspect": ["model", "inspect", "grid.pt", "--probe"],
    "profile": ["model", "profile", "grid.pt", "--frames", VIDEO, "--count", "2", "--out", "profile"],
    "compare": ["model", "compare", "grid.pt", "grid.pt", VIDEO, "--frames", "2"],
    "quantize": ["model", "quantize", "grid.pt", "--frames", VIDEO, "-o", "int8.pt", "--force", "--count", "4"],
    "doctor": ["doctor", "grid.pt", "--frames", VIDEO],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_configuration_makes_it_usable(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    arguments = [*COMMANDS[command], "--json"]
    assert main(arguments) == (1 if command == "doctor" else 2)
    capsys.readouterr()
    assert main([*arguments, "--config", "streams.yaml"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    if command == "inspect":
        assert (found["probe"]["adapter"], found["probe"]["input"]) == ("grid_head", [64, 96])
        assert found["probe"]["labels"] == {"0": "thing"}
    elif command == "profile":
        assert found["adapter"] == "grid_head"
    elif command == "compare":
        assert [found[side]["input"] for side in "ab"] == [[64, 96]] * 2
        assert found["agreement"]["matched"]["0.75"] == 1.0
        assert found["agreement"]["detections"]["a"] > 0
    elif command == "quantize":
        assert (found["after"]["adapter"], found["after"]["precision"]) == ("grid_head", "int8")
    else:
        assert found["model"] == "grid.pt"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_configuration_or_option_is_one_line(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "bad.yaml").write_text("model: {pth: grid.pt}\n")
    for name, said in (("bad.yaml", "bad.yaml:1:9: model.pth: unknown key"), ("none.yaml", "none.yaml: no such file")):
        assert main([*COMMANDS[command], "--config", name]) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1)
        assert said in err
    adapter = "no_such_family"
    assert main([*COMMANDS[command], "--adapter", adapter]) == (1 if command == "doctor" else 2)
    assert adapter in "".join(capsys.readouterr())


def test_the_adapter_by_option_and_the_model_by_configuration(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert main(["doctor", "--config", "streams.yaml", "--frames", VIDEO, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == str(folder / "grid.pt")
    (folder / "streams.yaml").write_text("model: {input: [64, 96]}\n")
    arguments = ["model", "inspect", "grid.pt", "--probe", "--json", "--config", "streams.yaml"]
    assert main([*arguments, "--adapter", "grid_head:GridHead"]) == 0
    assert json.loads(capsys.readouterr().out)["probe"]["adapter"] == "grid_head"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model", "inspect", "grid.pt", "--adapter", "rows"], "they need --probe"),
        (["doctor", "--adapter", "rows"], "give its FILE too"),
        (["model", "profile"], "which model?"),
        (["model", "profile", "grid.pt", "--device", "tpu"], "--device: expected auto, cpu, cuda"),
    ],
)
def test_options_that_do_not_fit(
    words: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert said in err


def options(*words: str) -> argparse.Namespace:
    parser = Parser("x", "", "")
    parser.add_argument("--device")
    parser.add_argument("--conf", type=float)
    add_model_options(parser)
    return parser.parse(words)


def written(folder: Path, **model: Any) -> str:
    (folder / "c.yaml").write_text(json.dumps({"model": model}))
    return str(folder / "c.yaml")


def test_options_win_over_the_configuration_and_that_over_what_is_usual(tmp_path: Path) -> None:
    config = written(tmp_path, path="a.pt", adapter="heatmap", adapter_options={"logits": True}, confidence=0.7)
    a = str(tmp_path / "a.pt")
    found = model_config(options("--config", config), None, confidence=0.25, iou=0.3)
    assert (found.path, found.adapter, found.confidence, found.iou) == (a, "heatmap", 0.7, 0.3)
    assert found.adapter_options == {"logits": True}
    found = model_config(options("--config", config, "--conf", "0.1", "--device", "cpu", "--adapter", "rows"), "b.pt")
    assert (found.path, found.device, found.adapter, found.confidence) == ("b.pt", "cpu", "rows", 0.1)
    assert found.adapter_options is None, "they were the other adapter's"
    assert model_config(options(), "b.pt", confidence=0.25).confidence == 0.25
    with pytest.raises(UsageError, match="which model"):
        model_config(options(), None)
    with pytest.raises(ConfigError, match=r"^--conf: .*at most 1"):
        model_config(options("--conf", "7"), "b.pt")


def test_a_pinned_digest_is_of_the_file_that_the_configuration_names(tmp_path: Path) -> None:
    digest = "0" * 64
    given = options("--config", written(tmp_path, path="a.pt", sha256=digest))
    assert model_config(given, None).sha256 == digest
    assert model_config(given, tmp_path / "." / "a.pt").sha256 == digest
    assert model_config(given, tmp_path / "b.pt").sha256 is None


def test_compare_takes_the_section_for_both_or_for_the_one_that_it_names(tmp_path: Path) -> None:
    def adapters(**model: Any) -> list[str | None]:
        parser = Parser("x", "", "")
        model_compare.configure(parser)
        a, b = str(tmp_path / "a.pt"), str(tmp_path / "b.pt")
        found = model_compare._models(parser.parse([a, b, VIDEO, "--config", written(tmp_path, **model)]))
        assert {one.confidence for one in found} == {model.get("confidence", 0.25)}
        assert [one.path for one in found] == [a, b]
        return [one.adapter for one in found]

    assert adapters(adapter="rows") == ["rows", "rows"]
    assert adapters(adapter="rows", path="c.pt", confidence=0.6) == ["rows", "rows"]
    assert adapters(adapter="rows", path="b.pt", confidence=0.6) == [None, "rows"]


def test_tune_is_told_too(folder: Path) -> None:
    def given(*words: str) -> Any:
        parser = Parser("x", "", "")
        model_tune.configure(parser)
        subject = model_tune._subject(parser.parse([str(folder / "grid.pt"), *words]))
        assert subject.key["adapter"] == subject.given["adapter"]
        return subject.given

    told = given("--config", str(folder / "streams.yaml"))
    assert (told["adapter"], told["input_size"], told["confidence"]) == ("grid_head:GridHead", (64, 96), 0.2)
    assert given("--adapter", "rows")["adapter"] == "rows"
