# SPDX-License-Identifier: Apache-2.0
"""An adapter of the user's own: the guide's example as it stands, by module and entry point; and what goes wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.detectors import build_detector
from pipeline.detectors.plugins import installed
from pipeline.errors import ModelLoadError
from tests.models import batch_of, save

GUIDE = Path(__file__).parents[2] / "docs" / "detectors.md"
SIZE = (64, 96)


class Grid(nn.Module):
    """(B, 5, rows, columns): each 32 x 32 cell's score is its first channel's mean; its box is the cell."""

    def forward(self, x: Tensor) -> Tensor:
        scores = nn.functional.avg_pool2d(x[:, :1], 32)
        rows, columns = scores.size(2), scores.size(3)
        left = (torch.arange(columns) * 32.0).view(1, 1, 1, -1).expand(x.size(0), 1, rows, columns)
        top = (torch.arange(rows) * 32.0).view(1, 1, -1, 1).expand(x.size(0), 1, rows, columns)
        return torch.cat((scores, left, top, left + 32.0, top + 32.0), 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, for modules of which nothing stays."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    for name in ("my_head", "faulty", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return place


def example() -> str:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    found = [block for block in blocks if "class MyHead" in block]
    assert len(found) == 1
    return str(found[0])


def found_by(adapter: str, tmp_path: Path, **options: Any) -> Any:
    detector = build_detector(
        save(Grid(), tmp_path / "mine.pt"), adapter=adapter, input_size=SIZE, confidence=0.5, device="cpu", **options
    )
    assert detector.model_info()["adapter"] == "my_head"
    assert (detector.spec.colour, detector.spec.fit) == ("bgr", "stretch")
    picture = np.zeros(detector.spec.shape, np.uint8)
    picture[32:, 64:, 0] = 255
    return detector, detector.submit(batch_of(detector.spec, picture)).result()[0]


def test_the_example_of_the_readme_by_its_module(folder: Path, tmp_path: Path) -> None:
    code = example()
    assert len(code.splitlines()) <= 32
    (folder / "my_head.py").write_text(code)
    detector, found = found_by("my_head:MyHead", tmp_path)
    assert found.xyxy.tolist() == [[64.0, 32.0, 96.0, 64.0]]
    assert detector.labels == {0: "class_0"}
    assert found_by("my_head:MyHead", tmp_path, adapter_options={"classes": 2})[0].labels[1] == "class_1"


def test_the_example_of_the_readme_by_its_entry_point(folder: Path, tmp_path: Path) -> None:
    (folder / "my_head.py").write_text(example())
    toml = re.search(r'entry-points\."([\w.]+)"\]\n(.*)\n', GUIDE.read_text())
    assert toml is not None
    facts = folder / "my_head-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-head\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{toml[1]}]\n{toml[2].replace(chr(34), '')}\n")
    assert "my_head" in installed()
    assert "my_head" not in sys.modules, "nothing is imported before it is asked for"
    assert len(found_by("my_head", tmp_path)[1]) == 1
    files = {"pipeline.json": {"adapter": "my_head", "input": [*SIZE], "names": ["thing"]}}
    by_metadata = build_detector(save(Grid(), tmp_path / "named.pt", files), device="cpu")
    assert by_metadata.model_info()["adapter"] == "my_head"
    assert by_metadata.labels == {0: "thing"}


FAULTY = """
def raises(): raise RuntimeError("no luck")
def nothing(): return None
class Half:
    name = "half"
    preprocessing = "rgb"
    def check(self, outputs, size): pass
    def parse(self, outputs, count, limits, spec): pass
"""


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ("faulty.missing:f", "cannot be imported: No module named 'faulty.missing'.*PYTHONPATH"),
        ("broken:f", "cannot be imported: "),
        ("faulty:missing", "cannot be imported: module 'faulty' has no attribute 'missing'"),
        (":f", "cannot be imported"),
        ("faulty:raises", "failed when it was called: no luck"),
        ("faulty:nothing", "made a NoneType, which is not an adapter: it has no name, preprocessing, check, parse"),
        ("faulty:Half", "its preprocessing is not a Preprocessing"),
    ],
)
def test_what_is_no_adapter_is_refused_in_one_line(adapter: str, said: str, folder: Path, tmp_path: Path) -> None:
    (folder / "faulty.py").write_text(FAULTY)
    (folder / "broken.py").write_text("this is no Python")
    with pytest.raises(ModelLoadError, match=said) as error:
        build_detector(save(Grid(), tmp_path / "m.pt"), adapter=adapter, input_size=SIZE, device="cpu")
    assert "\n" not in str(error.value)


def test_options_that_it_does_not_take(folder: Path, tmp_path: Path) -> None:
    (folder / "my_head.py").write_text(example())
    with pytest.raises(ModelLoadError, match=r"failed when it was called with size: .*unexpected keyword"):
        found_by("my_head:MyHead", tmp_path, adapter_options={"size": 3})


def test_outputs_that_do_not_fit_it(folder: Path, tmp_path: Path) -> None:
    (folder / "my_head.py").write_text(example())

    class Other(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(ModelLoadError, match=r"the adapter my_head:MyHead does not fit: \(1, 3, 64, 96\) came"):
        build_detector(save(Other(), tmp_path / "m.pt"), adapter="my_head:MyHead", input_size=SIZE, device="cpu")


def test_a_file_cannot_name_a_module_to_import(folder: Path, tmp_path: Path) -> None:
    (folder / "faulty.py").write_text("raise SystemExit('imported')")
    files = {"pipeline.json": {"adapter": "faulty:f", "input": [*SIZE]}}
    with pytest.raises(ModelLoadError, match="there is no adapter 'faulty:f'"):
        build_detector(save(Grid(), tmp_path / "m.pt", files), device="cpu")
