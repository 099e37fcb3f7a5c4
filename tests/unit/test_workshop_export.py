# SPDX-License-Identifier: Apache-2.0
"""The parts of export: how a module is compiled, what counts as equal, where modules and weights come from."""

from __future__ import annotations

import os
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import ModelError, ModelLoadError, UsageError
from pipeline.workshop.exports.compiling import compiled, takes_list
from pipeline.workshop.exports.equality import Case, Disagreement, compare
from pipeline.workshop.exports.origin import resolve
from pipeline.workshop.exports.saving import beside, format_of
from pipeline.workshop.exports.weights import read_weights
from tests.models import Cells, RaisesOnWhite, tiny_ssd

EXAMPLE = torch.rand(2, 3, 64, 64)


def test_what_does_not_depend_on_data_is_traced() -> None:
    done = compiled(Cells().eval(), "auto", EXAMPLE)
    assert (done.method, done.remarks) == ("trace", ())


def test_what_depends_on_data_is_scripted_and_says_where() -> None:
    done = compiled(RaisesOnWhite().eval(), "auto", EXAMPLE)
    assert done.method == "script"
    assert "Python boolean at models.py:" in done.why
    with pytest.raises(torch.jit.Error, match="poison"):
        done.module(torch.ones(1, 3, 64, 64))


def test_tracing_it_all_the_same_is_possible_and_remarked() -> None:
    done = compiled(RaisesOnWhite().eval(), "trace", EXAMPLE)
    assert done.method == "trace"
    assert "kept one way only" in done.remarks[0]


def test_a_list_of_pictures_is_scripted() -> None:
    assert takes_list(tiny_ssd())
    assert not takes_list(Cells())
    with pytest.raises(UsageError, match="use script"):
        compiled(tiny_ssd(), "trace", [])


def case(expected: Any, given: Any = EXAMPLE) -> Case:
    return Case("noise", given, expected)


def boxes(count: int, shift: float = 0.0) -> dict[str, Tensor]:
    corner = torch.arange(count).float()[:, None] * 20
    return {
        "boxes": torch.cat((corner, corner + 10.0 + shift), 1).repeat(1, 2)[:, [0, 0, 1, 1]],
        "scores": torch.linspace(0.9, 0.5, count),
        "labels": torch.ones(count, dtype=torch.int64),
    }


def pixels_and_scores(score: float) -> Tensor:
    """As (B, 4 + classes, rows): boxes up to 640, and scores that are lost in 1e-4 of that."""
    return torch.cat((torch.full((1, 4, 50), 640.0), torch.full((1, 3, 50), score)), 1)


def maps(*values: float) -> Tensor:
    return torch.stack([torch.full((8, 8), value) for value in values]).unsqueeze(0)


@pytest.mark.parametrize(
    ("returned", "expected", "said"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), r"\(2, 3\) float32; the original returns \(2, 4\)"),
        (torch.ones(2), torch.tensor([1.0, 1.001]), "differs by"),
        (torch.ones(2, dtype=torch.int64), torch.tensor([1, 2]), "1 of 2 whole numbers"),
        (torch.tensor([1.0, float("nan")]), torch.ones(2), "NaN or infinite"),
        (torch.tensor([1.0, float("inf")]), torch.tensor([1.0, float("-inf")]), "NaN or infinite"),
        ((torch.ones(1),), (torch.ones(1), torch.ones(1)), "tuple of 1"),
        ({"a": torch.ones(1)}, {"b": torch.ones(1)}, "dict"),
        (pixels_and_scores(0.0), pixels_and_scores(0.05), "differs by 0.078 of a channel's"),
        (pixels_and_scores(0.0).mT, pixels_and_scores(0.05).mT, "differs by 0.078 of a channel's"),
        (maps(640.0, 0.0), maps(640.0, 0.02), "differs by"),
        ([boxes(10)], [boxes(9)], "10 detections, the original 9"),
        ([boxes(10)], [boxes(10, 5.0)], "0.0 % of them match"),
    ],
)
def test_differences_are_found(returned: Any, expected: Any, said: str) -> None:
    with pytest.raises(Disagreement, match=said):
        compare(lambda given: returned, [case(expected)])


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (torch.ones(2), torch.tensor([1.0, 1.00001])),
        (pixels_and_scores(0.0), pixels_and_scores(1e-6)),
        (pixels_and_scores(0.05), pixels_and_scores(0.05) * 1.00001),
        (torch.tensor([1.0, float("nan"), float("inf")]), torch.tensor([1.0, float("nan"), float("inf")])),
        (({}, [boxes(10)]), [boxes(10)]),
        ([{key: value.flip(0) for key, value in boxes(10).items()}], [boxes(10)]),
        ([boxes(0)], [boxes(0)]),
    ],
)
def test_what_counts_as_equal(returned: Any, expected: Any) -> None:
    account = compare(lambda given: returned, [case(expected)])
    assert account.pictures == 2
    assert account.largest <= 1e-4


def test_a_module_that_raises_or_writes_into_its_input() -> None:
    with pytest.raises(Disagreement, match="noise: it raises"):
        compare(lambda given: given[5], [case(EXAMPLE)])
    kept = EXAMPLE.clone()
    compare(lambda given: given.zero_(), [case(torch.zeros_like(EXAMPLE), kept)])
    assert torch.equal(kept, EXAMPLE)


def test_formats_by_suffix() -> None:
    assert [format_of(Path(f"m{suffix}"), None) for suffix in (".pt", ".pt2", ".ptl", ".bin", "")] == [
        "torchscript",
        "pt2",
        "ptl",
        "torchscript",
        "torchscript",
    ]
    with pytest.raises(UsageError, match="means pt2, but --format is ptl"):
        format_of(Path("m.pt2"), "ptl")
    with pytest.raises(UsageError, match="another format"):
        format_of(Path("m.onnx"), None)


def test_a_file_takes_its_place_only_when_all_went_well(tmp_path: Path) -> None:
    out = tmp_path / "m.pt"
    out.write_text("old")

    def fail() -> None:
        with beside(out) as path:
            path.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (out.read_text(), [entry.name for entry in tmp_path.iterdir()]) == ("old", ["m.pt"])
    with beside(out) as path:
        assert path.suffix == ".pt"
        path.write_text("new")
    assert (out.read_text(), [entry.name for entry in tmp_path.iterdir()]) == ("new", ["m.pt"])
    (tmp_path / "usual").touch()
    assert out.stat().st_mode == (tmp_path / "usual").stat().st_mode
    with pytest.raises(UsageError, match="is a folder"), beside(tmp_path):
        pass
    with pytest.raises(UsageError, match="cannot be written: No such file"), beside(tmp_path / "no" / "m.pt"):
        pass


FACTORIES = """
import torch
from torch import nn

class Conv(nn.Conv2d):
    names = ["cat", "dog"]

def good():
    return Conv(3, 4, 1)

def broken():
    raise KeyError("no such layer")

def text():
    return "module"

def late():
    from late_sibling_of_factories import made
    return made()

def scripted():
    return torch.jit.script(nn.ReLU())

class Stuck(nn.ReLU):
    def train(self, mode=True):
        return self

def stuck():
    return nn.Sequential(Stuck())

number = 3
ready = Conv(3, 4, 1)
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working folder, under a name that no other test has imported."""
    name = f"factories_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    (tmp_path / f"{name}_faulty.py").write_text("import nowhere_at_all")
    (tmp_path / "late_sibling_of_factories.py").write_text("from torch.nn import Identity as made")
    monkeypatch.chdir(tmp_path)
    return name


def test_a_factory_in_the_working_folder(factories: str) -> None:
    for name in ("good", "ready"):
        origin = resolve(f"{factories}:{name}", None, None)
        assert not origin.module.training
        assert not any(parameter.requires_grad for parameter in origin.module.parameters())
        assert (origin.weights, origin.names) == ("own", {0: "cat", 1: "dog"})


def test_a_factory_imports_its_neighbours_when_it_is_called(factories: str) -> None:
    before = list(sys.path)
    assert os.getcwd() not in before
    assert isinstance(resolve(f"{factories}:late", None, None).module, nn.Identity)
    assert sys.path == before


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        ("M:godo", UsageError, "did you mean good"),
        ("M:broken", ModelError, "calling it failed: KeyError: 'no such layer'"),
        ("M:text", ModelError, "it returned a str"),
        ("M:number", UsageError, "this is a int; a function"),
        ("M:scripted", ModelError, "TorchScript already"),
        ("M:stuck", ModelError, "0 stays in training mode"),
        ("M_faulty:good", ModelError, "importing M_faulty failed: No module named 'nowhere_at_all'"),
        ("nowhere_at_all.models:good", UsageError, "there is no module nowhere_at_all"),
        ("a/b.py:good", UsageError, "package.module:factory was expected"),
        ("ssdlite320_mobilenet_v3_larg", UsageError, "did you mean ssdlite320_mobilenet_v3_large"),
        ("resnet18", UsageError, "but not as a detector"),
        ("zzz", UsageError, "or package.module:factory"),
    ],
)
def test_what_cannot_be_had_is_said(what: str, error: type[Exception], said: str, factories: str) -> None:
    with pytest.raises(error, match=said.replace("M_faulty", f"{factories}_faulty")) as raised:
        resolve(what.replace("M", factories, 1) if what[0] == "M" else what, None, None)
    assert "\n" not in str(raised.value)


def test_weights_from_a_file(factories: str, tmp_path: Path) -> None:
    state = {"weight": torch.ones(4, 3, 1, 1), "bias": torch.arange(4.0)}
    for content in (state, {"state_dict": state}, {"model": state, "epoch": 3}):
        torch.save(content, tmp_path / "w.pth")
        origin = resolve(f"{factories}:good", str(tmp_path / "w.pth"), None)
        assert torch.equal(origin.module.bias, state["bias"])  # type: ignore[arg-type]
    torch.save({"weight": torch.ones(5, 3, 1, 1), "other": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(ModelLoadError, match=r"1 missing \(bias\); 1 unknown \(other\); 1 of another shape \(weight\)"):
        resolve(f"{factories}:good", str(tmp_path / "w.pth"), None)


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return eval, ("1 + 1",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Evil, "holds more than weights, and is not run"),
        (nn.ReLU, "holds more than weights, and is not run"),
        (lambda: [torch.ones(1)], r"a state_dict\) were expected"),
        (dict, r"a state_dict\) were expected"),
        (lambda: {"state_dict": {"a": 1}}, r"a state_dict\) were expected"),
    ],
)
def test_what_is_no_weights_is_refused(content: Callable[[], Any], said: str, tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "w.pth")
    with pytest.raises(ModelLoadError, match=said):
        read_weights(tmp_path / "w.pth")


def test_other_files_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"words")
    with pytest.raises(ModelLoadError, match=r"w\.pth: "):
        read_weights(tmp_path / "w.pth")
    with pytest.raises(ModelLoadError, match="no such weights file"):
        read_weights(tmp_path / "nowhere.pth")
    with pytest.raises(ModelLoadError, match="cannot be read: Is a directory"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (urllib.error.URLError("Name or service not known"), "cannot be downloaded: Name or service not known"),
        (TimeoutError("timed out"), "cannot be downloaded: timed out"),
        (RuntimeError("invalid hash value"), "are damaged: invalid hash value"),
    ],
)
def test_without_network_the_offline_way_is_told(
    failure: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.models import _api

    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(_api, "load_state_dict_from_url", fail)
    with pytest.raises(ModelError, match=said) as error:
        resolve("ssdlite320_mobilenet_v3_large", None, None)
    assert "--weights ssdlite320_mobilenet_v3_large_coco-" in str(error.value)
    assert "--weights none" in str(error.value)
    assert "\n" not in str(error.value)
    assert capsys.readouterr().err == ""


def test_options_that_do_not_fit(factories: str) -> None:
    with pytest.raises(UsageError, match="is for torchvision's detectors"):
        resolve(f"{factories}:good", "DEFAULT", None)
    with pytest.raises(UsageError, match="--num-classes is for torchvision"):
        resolve(f"{factories}:good", None, 3)
    with pytest.raises(UsageError, match="leave one of them out"):
        resolve("ssdlite320_mobilenet_v3_large", "DEFAULT", 3)
