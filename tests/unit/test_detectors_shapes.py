# SPDX-License-Identifier: Apache-2.0
"""Families told from structure and shape, fed as they want; what could be several families is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.detectors import build_detector
from pipeline.detectors.adapters.grid import cells
from pipeline.detectors.adapters.queries import activation_of
from pipeline.detectors.names import COCO_91
from pipeline.detectors.preprocessing import IMAGENET_MEAN
from pipeline.detectors.shapes import Unclear, tell
from pipeline.errors import ModelLoadError
from pipeline.frame import InputSpec, Picture
from pipeline.stages import Letterbox
from tests.models import Canned, Cells, batch_of, save

SMALL = (64, 96)
SPEC = InputSpec(*SMALL)
PER_CELL = cells(64, 96, (8, 16, 32))
PER_CELL_P6 = cells(64, 96, (8, 16, 32, 64))


def logits(queries: int, classes: int, kind: str) -> Tensor:
    """As a trained network gives them for a picture without objects."""
    values = torch.linspace(-7, -5, queries * classes).view(1, queries, classes)
    if kind == "softmax":
        values = values + 3.0
        values[..., -1] = 6.0
    return values


BOXES = torch.full((1, 20, 4), 0.5)
TOLD: list[tuple[str, Any, int, str]] = [
    ("queries: sigmoid", (BOXES, logits(20, 91, "sigmoid")), 0, "rfdetr"),
    ("queries: softmax", {"pred_boxes": BOXES, "pred_logits": logits(20, 92, "softmax")}, 0, "detr"),
    ("queries: logits first", (logits(20, 6, "softmax"), BOXES, torch.zeros(1, 20, 32)), 0, "detr"),
    ("three", (torch.zeros(1, 20).long(), BOXES, torch.zeros(1, 20)), 0, "rtdetr"),
    ("map", torch.zeros(1, 1, 8, 12), 0, "heatmap"),
    ("per cell, 3 + 5", torch.zeros(1, PER_CELL, 8), 3, "yolox"),
    ("per cell, 3 + 32", torch.zeros(1, PER_CELL_P6, 35), 3, "nanodet"),
    ("anchors last", torch.zeros(1, 7, PER_CELL), 0, "ultralytics"),
    ("three per cell", torch.zeros(1, 3 * PER_CELL, 6), 0, "yolov5"),
]


@pytest.mark.parametrize(("outputs", "classes", "expected"), [row[1:] for row in TOLD], ids=[row[0] for row in TOLD])
def test_told(outputs: Any, classes: int, expected: str) -> None:
    assert tell(outputs, 1, SPEC, classes) == expected


@pytest.mark.parametrize(
    ("outputs", "classes", "said"),
    [
        ((BOXES, torch.zeros(1, 20, 91)), 0, "whether a sigmoid (rfdetr) or a softmax (detr)"),
        ((BOXES, torch.randn(1, 20, 91)), 0, "whether a sigmoid (rfdetr) or a softmax (detr)"),
        (torch.zeros(1, PER_CELL, 8), 0, "one row per grid cell, as yolox, transposed"),
        (torch.zeros(1, PER_CELL_P6, 35), 0, "one row per grid cell, as yolox, nanodet, transposed"),
        (torch.zeros(1, PER_CELL, 8), 4, "with 4 classes it fits none of them"),
        (torch.zeros(1, 2, 8, 12), 0, "(1, 1, rows, columns) was expected"),
        (torch.zeros(1, 4), 0, "(1, 1, rows, columns) was expected"),
        ({"boxes": 3}, 0, "dict {boxes: int}"),
        ([], 0, "was expected"),
        ("text", 0, "str for a batch of 1 at 96x64"),
    ],
)
def test_refused(outputs: Any, classes: int, said: str) -> None:
    with pytest.raises(Unclear) as error:
        tell(outputs, 1, SPEC, classes)
    assert said in str(error.value)


def test_the_activation_only_where_it_is_certain() -> None:
    assert activation_of(logits(300, 91, "sigmoid")) == "sigmoid"
    assert activation_of(logits(300, 91, "softmax")) == "softmax"
    assert activation_of(torch.zeros(1, 300, 1)) is None
    both = torch.full((1, 300, 3), -9.0)
    both[..., -1] = -2.0  # all are negative, and the last one wins clearly: a softmax does not mind the common offset
    assert activation_of(both) is None
    assert activation_of(torch.full((1, 300, 3), float("nan"))) is None


class Queries(nn.Module):
    """One query at the centre of the input; its class is the channel that is brightest. Boxes first."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        means = x.mean((2, 3))
        found = (means - means.amax(1, keepdim=True)) * 100.0 + torch.where(
            means.amax(1, keepdim=True) > 1.5, 6.0, -6.0
        )
        boxes = torch.tensor([0.5, 0.5, 0.25, 0.5]).to(x).expand(x.size(0), 20, 4)
        return boxes, torch.cat((found.unsqueeze(1), torch.full((x.size(0), 19, 3), -6.0)), 1)


def test_a_transformer_is_fed_as_it_wants_once_it_is_recognised(tmp_path: Path) -> None:
    detector = build_detector(save(Queries(), tmp_path / "m.pt"), input_size=SMALL, device="cpu")
    info = detector.model_info()
    assert info["adapter"] == "rfdetr"
    assert info["trim"] == 0
    assert info["input_spec"]["mean"] == [*IMAGENET_MEAN]
    assert detector.spec == InputSpec(64, 96, fit="stretch")
    picture = np.zeros(detector.spec.shape, np.uint8)
    picture[..., 1] = 255
    found = detector.submit(batch_of(detector.spec, picture)).result()[0]
    assert found.xyxy.tolist() == [[36.0, 16.0, 60.0, 48.0]]
    assert found.class_id.tolist() == [1]


class NamedQueries(nn.Module):
    """The same as a dict, with a class "no object" at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = Queries()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        boxes, found = self.queries(x)
        nobody = torch.full((x.size(0), 20, 1), 0.0)
        return {"pred_logits": torch.cat((found, nobody), 2), "pred_boxes": boxes}


class ManyClasses(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full((x.size(0), 10, 4), 0.5), torch.full((x.size(0), 10, 91), -5.0)


def test_detr_in_a_dict_and_coco_names(tmp_path: Path) -> None:
    named = build_detector(save(NamedQueries(), tmp_path / "m.pt"), input_size=SMALL, adapter="detr", device="cpu")
    picture = np.zeros(named.spec.shape, np.uint8)
    picture[..., 2] = 255
    assert named.submit(batch_of(named.spec, picture)).result()[0].class_id.tolist() == [2]
    assert named.labels == {0: "class_0", 1: "class_1", 2: "class_2"}
    many = build_detector(save(ManyClasses(), tmp_path / "n.pt"), input_size=SMALL, device="cpu", classes=["person"])
    assert many.labels == COCO_91


class Deployed(nn.Module):
    """Labels, boxes, scores of the cells of one row, as RT-DETR with its post-processing: two inputs."""

    def forward(self, images: Tensor, orig_target_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        means = nn.functional.avg_pool2d(images, 32).flatten(2)
        scores, labels = means.max(1)
        columns = images.size(3) // 32
        index = torch.arange(means.size(2))
        x = (index % columns).to(images) / columns
        y = (index // columns).to(images) * 32.0 / images.size(2)
        boxes = torch.stack((x, y, x + 1.0 / columns, y + 32.0 / images.size(2)), 1).unsqueeze(0)
        return labels, boxes * orig_target_sizes.repeat(1, 2).unsqueeze(1), scores


def test_rtdetr_gets_the_size_of_its_input_so_that_boxes_map_back(tmp_path: Path) -> None:
    detector = build_detector(save(Deployed(), tmp_path / "m.pt"), input_size=SMALL, confidence=0.9, device="cpu")
    assert detector.model_info()["adapter"] == "rtdetr"
    assert detector.model_info()["input_spec"]["extra_inputs"] == ["orig_target_sizes"]
    assert detector.max_batch == 8
    shown = np.zeros((128, 288, 3), np.uint8)  # source pixels: a cell of the input is 96 x 64 of them
    shown[64:, 192:, 0] = 255
    out = np.empty(detector.spec.shape, np.uint8)
    geometry = Letterbox().prepare(Picture((shown,), "rgb"), detector.spec, out)
    found = detector.submit(batch_of(detector.spec, out, out)).result()[1]
    np.testing.assert_allclose(geometry.to_source(found.xyxy), [[192, 64, 288, 128]], atol=1e-3)
    assert found.class_id.tolist() == [0]


class Yolox(nn.Module):
    """Raw grid outputs at strides 8, 16, 32; an object of its cell's size where the blue channel, 0..255, is bright."""

    def forward(self, x: Tensor) -> Tensor:
        levels: list[Tensor] = []
        for stride in (8, 16, 32):
            bright = (nn.functional.avg_pool2d(x[:, :1], stride).flatten(1) / 255.0 * (stride == 16)).unsqueeze(2)
            box = torch.cat(
                (torch.full_like(bright, 0.5).expand(-1, -1, 2), torch.zeros_like(bright).expand(-1, -1, 2)), 2
            )
            levels.append(torch.cat((box, bright, torch.ones_like(bright)), 2))
        return torch.cat(levels, 1)


def test_yolox_sees_blue_first_in_grey_levels_at_the_top_left(tmp_path: Path) -> None:
    detector = build_detector(save(Yolox(), tmp_path / "m.pt"), input_size=SMALL, adapter="yolox", device="cpu")
    shown = np.zeros((32, 96, 3), np.uint8)
    shown[16:, 32:48, 2] = 255
    out = np.empty(detector.spec.shape, np.uint8)
    geometry = Letterbox().prepare(Picture((shown,), "rgb"), detector.spec, out)
    assert out[50, 5].tolist() == [114, 114, 114]
    found = detector.submit(batch_of(detector.spec, out)).result()[0]
    assert geometry.to_source(found.xyxy)[0].tolist() == [32.0, 16.0, 48.0, 32.0]
    # The padding's grey of 114 is 0.45 of white: more objects for this network, but not under the brightest one.
    assert found.confidence[0] == pytest.approx(1.0)


def test_names_decide_where_there_is_one_row_per_cell(tmp_path: Path) -> None:
    output = torch.zeros(1, PER_CELL, 8)
    detector = build_detector(
        save(Canned(output), tmp_path / "m.pt"), input_size=SMALL, names=["a", "b", "c"], device="cpu"
    )
    assert detector.model_info()["adapter"] == "yolox"
    assert detector.spec.fit == "top_left"
    with pytest.raises(ModelLoadError, match=r"\(1, 126, 8\).*one row per grid cell.*Remedy: set model.adapter to"):
        build_detector(save(Canned(output), tmp_path / "n.pt"), input_size=SMALL, device="cpu")


def test_options_from_the_file_and_from_the_user(tmp_path: Path) -> None:
    module = Canned(torch.zeros(1, 1, 8, 12).index_fill(3, torch.tensor([5]), 0.9))
    files = {"pipeline.json": {"adapter": "heatmap", "input": [64, 96], "adapter_options": {"box": [10, 64]}}}
    file = save(module, tmp_path / "m.pt", files)
    picture = np.zeros((64, 96, 3), np.uint8)

    def box(**options: Any) -> list[list[float]]:
        detector = build_detector(file, device="cpu", iou=0.1, **options)
        found: list[list[float]] = detector.submit(batch_of(detector.spec, picture)).result()[0].xyxy.tolist()
        return found

    assert box()[0][0::2] == [39.0, 49.0]
    assert box(adapter_options={"box": [4, 64]})[0][0::2] == [42.0, 46.0]
    with pytest.raises(ModelLoadError, match="adapter_options: bix: there is no such option"):
        box(adapter_options={"bix": 1})
    with pytest.raises(ModelLoadError, match="'adapter_options' in its metadata is 3"):
        build_detector(save(module, tmp_path / "n.pt", {"pipeline.json": {"adapter_options": 3}}), device="cpu")


def test_the_users_names_do_not_make_another_family_of_a_known_one(tmp_path: Path) -> None:
    assert build_detector(
        save(Cells(), tmp_path / "m.pt"), input_size=(192, 320), names=["a"], adapter="ultralytics", device="cpu"
    ).labels == {0: "a"}
