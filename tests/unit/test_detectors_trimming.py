# SPDX-License-Identifier: Apache-2.0
"""Which models may be given inputs without their padding, and that such inputs give the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.detectors import build_detector
from pipeline.detectors.adapter import Limits, Parsed
from pipeline.detectors.preprocessing import Preprocessing
from pipeline.errors import InferenceError
from pipeline.frame import Batch, Detections, InputSpec, Item, Picture
from pipeline.stages import Letterbox
from pipeline.stages.region import Region
from tests.models import NAMES, Cells, Normalised, batch_of, save, tiny_ssd, ultralytics_metadata

SIDE: Final = 256


class BakedHeight(Cells):
    """Boxes in units of the input's height, times the height that it was exported for: other heights get it wrong."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        stretch = torch.tensor([1.0, 256.0 / x.size(2), 1.0, 256.0 / x.size(2)]).view(1, 4, 1)
        return torch.cat((boxes * stretch, scores), 1)


class BakedWidth(Cells):
    """As above, for the width."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        return torch.cat(
            (boxes * torch.tensor([256.0 / x.size(3), 1.0, 256.0 / x.size(3), 1.0]).view(1, 4, 1), scores), 1
        )


class FixedGrid(Cells):
    """Its anchors are constants of the export, as in most traced models: it raises at other sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anchors", self.cells(torch.zeros(1, 3, SIDE, SIDE))[0][0])

    def forward(self, x: Tensor) -> Tensor:
        _, scores = self.cells(x)
        return torch.cat((self.anchors.unsqueeze(0).expand(x.size(0), -1, -1), scores), 1)


def built(module: nn.Module, folder: Path, **options: Any) -> Any:
    files = ultralytics_metadata((SIDE, SIDE), NAMES, dynamic=True)
    return build_detector(save(module, folder / "m.torchscript", files), device="cpu", max_batch=4, **options)


@pytest.mark.parametrize("module", [Cells(), Cells(grow=1.5), Normalised()], ids=["cells", "grown", "normalised"])
def test_a_model_that_takes_other_shapes_may_be_trimmed(module: nn.Module, tmp_path: Path) -> None:
    assert built(module, tmp_path).spec.trim == 32


def test_by_the_stride_that_the_user_names(tmp_path: Path) -> None:
    assert built(Cells(), tmp_path, input_spec={"stride": 64}).spec.trim == 64


@pytest.mark.parametrize("module", [BakedHeight(), BakedWidth(), FixedGrid()], ids=["height", "width", "grid"])
def test_a_model_with_its_size_baked_in_may_not(module: nn.Module, tmp_path: Path) -> None:
    detector = built(module, tmp_path)
    assert detector.spec.trim == 0
    with pytest.raises(InferenceError, match=r"an input of shape \(128, 256, 3\)"):
        detector.submit(batch_of(InputSpec(128, SIDE), np.zeros((128, SIDE, 3), np.uint8)))


def test_neither_may_a_model_that_says_so_nor_one_that_resizes_by_itself(tmp_path: Path) -> None:
    says_so = save(Cells(), tmp_path / "fixed.torchscript", ultralytics_metadata((SIDE, SIDE), NAMES))
    assert build_detector(says_so, device="cpu").spec.trim == 0
    assert build_detector(save(tiny_ssd(), tmp_path / "ssd.pt"), device="cpu").spec.trim == 0
    assert built(Cells(), tmp_path, trim=False).spec.trim == 0


class OneSize:
    """An adapter with a table for the cells of one input size, as a user may write it."""

    name = "one_size"
    preprocessing = Preprocessing()
    table = np.arange(SIDE // 32 * (SIDE // 32))

    def check(self, outputs: Any, size: int) -> None:
        """Anything goes."""

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """Raises ValueError where the cells are not those of the table."""
        outputs[0, 4].numpy() + self.table
        return Parsed([Detections.empty()] * count, [0] * count)


def test_a_model_whose_adapter_knows_one_size_is_given_that_one(tmp_path: Path) -> None:
    detector = built(Cells(), tmp_path, adapter=f"{__name__}:OneSize")
    assert detector.spec.trim == 0
    batch = batch_of(InputSpec(SIDE, SIDE), np.zeros((SIDE, SIDE, 3), np.uint8))
    assert len(detector.submit(batch).result()) == 1


@pytest.mark.parametrize("module", [Cells(), Normalised()], ids=["pixels", "normalised"])
@pytest.mark.parametrize("shape", [(80, 160), (160, 80), (120, 160)], ids=["wide", "tall", "4:3"])
def test_the_same_boxes_in_source_pixels(module: nn.Module, shape: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    small = rng.integers(0, 2, (shape[0] // 10, shape[1] // 10, 3), np.uint8) * 255
    picture = Picture((np.kron(small, np.ones((10, 10, 1), np.uint8)),), "rgb")
    stage = Letterbox()
    answers = []
    for detector in (built(module, tmp_path, confidence=0.7), built(module, tmp_path, confidence=0.7, trim=False)):
        spec = stage.spec_for(picture, detector.spec)
        out = np.empty(spec.shape, np.uint8)
        geometry = stage.prepare(picture, spec, out)
        batch = batch_of(spec, out)
        answers.append((geometry.to_source(detector.submit(batch).result()[0].xyxy), spec))
    trimmed, whole = answers
    assert min(trimmed[1].shape[:2]) < SIDE == min(whole[1].shape[:2])
    assert len(trimmed[0]) > 0
    np.testing.assert_allclose(trimmed[0], whole[0], atol=1e-3)


def test_batches_of_different_shapes_take_turns_in_one_memory(tmp_path: Path) -> None:
    detector = built(Cells(), tmp_path, confidence=0.9)
    detector.warm([1, 3])
    for height, width in [(256, 256), (160, 256), (256, 96), (160, 256), (256, 256)]:
        picture = np.zeros((height, width, 3), np.uint8)
        picture[32:64, 64:96, 0] = 255
        spec = InputSpec(height, width)
        for found in detector.submit(batch_of(spec, picture, picture, picture)).result():
            assert found.xyxy.tolist() == [[64.0, 32.0, 96.0, 64.0]]


def test_a_batch_holds_one_shape(tmp_path: Path) -> None:
    detector = built(Cells(), tmp_path)
    items: list[Item] = []
    for height in (160, 256):
        spec = InputSpec(height, SIDE)
        items += batch_of(spec, np.zeros(spec.shape, np.uint8)).items
    with pytest.raises(InferenceError, match="an input of shape"):
        detector.submit(Batch(tuple(items), 2, 1))


def test_a_region_is_trimmed_by_its_own_shape() -> None:
    picture = Picture((np.zeros((480, 640, 3), np.uint8),), "rgb")
    spec = InputSpec(256, 256, trim=32)
    assert Letterbox().spec_for(picture, spec).shape[:2] == (192, 256)
    assert Letterbox(Region(0, 0, 160, 480, "pixels")).spec_for(picture, spec).shape[:2] == (256, 96)
    turned = Picture(picture.planes, "rgb", rotation=90)
    assert Letterbox().spec_for(turned, spec).shape[:2] == (256, 192)
