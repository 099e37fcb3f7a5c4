# SPDX-License-Identifier: Apache-2.0
"""Scripted torchvision detectors of every architecture, tiny and with random weights, against the eager model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign

from pipeline.detectors import build_detector
from pipeline.frame import InputSpec
from tests.golden import assert_equal, scene, threshold_for
from tests.models import batch_of, save, tiny_ssd

SIDE = 96
CLASSES = 4
SPEC = InputSpec(SIDE, SIDE)


class Backbone(nn.Module):
    """Two feature maps of 32 channels, at strides 8 and 16."""

    out_channels = 32

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, stride=8, padding=1)
        self.second = nn.Conv2d(32, 32, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        a = self.first(x).relu()
        return {"0": a, "1": self.second(a)}


def ssdlite() -> nn.Module:
    anchors = DefaultBoxGenerator([[2], [2]])
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    head = SSDLiteHead([32, 32], anchors.num_anchors_per_location(), CLASSES, norm)
    return SSD(Backbone(), anchors, (SIDE, SIDE), CLASSES, head=head, score_thresh=0.01)  # type: ignore[no-any-return]


def retinanet() -> nn.Module:
    anchors = AnchorGenerator(((16,), (32,)), ((0.5, 1.0),) * 2)
    return RetinaNet(  # type: ignore[no-any-return]
        Backbone(), CLASSES, anchor_generator=anchors, min_size=SIDE, max_size=SIDE, score_thresh=0.001
    )


def fcos() -> nn.Module:
    anchors = AnchorGenerator(((8,), (16,)), ((1.0,),) * 2)
    return FCOS(  # type: ignore[no-any-return]
        Backbone(), CLASSES, anchor_generator=anchors, min_size=SIDE, max_size=SIDE, score_thresh=0.001
    )


def faster_rcnn() -> nn.Module:
    return FasterRCNN(  # type: ignore[no-any-return]
        Backbone(),
        CLASSES,
        rpn_anchor_generator=AnchorGenerator(((16,), (32,)), ((0.5, 1.0),) * 2),
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 3, 2),
        min_size=SIDE,
        max_size=SIDE,
        rpn_post_nms_top_n_test=50,
        box_score_thresh=0.001,
    )


MODELS = {
    "SSD": lambda: tiny_ssd(CLASSES, SIDE),
    "SSDLite": ssdlite,
    "RetinaNet": retinanet,
    "FCOS": fcos,
    "Faster R-CNN": faster_rcnn,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_same_as_the_eager_model(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = make().eval()
        for part in model.modules():  # torchvision begins with weights so small that all scores are alike
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)
    pictures = [scene(SPEC, seed) for seed in range(2)]
    with torch.inference_mode():
        expected = model([torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture in pictures])
    threshold = threshold_for(torch.cat([found["scores"] for found in expected]), 60)
    detector = build_detector(save(model, tmp_path / "m.pt"), confidence=threshold, device="cpu")
    assert detector.model_info()["adapter"] == "torchvision"
    assert detector.model_info()["input_spec"]["as_list"]
    assert detector.spec.shape == SPEC.shape, "the size that the model resizes to inside"
    assert detector.labels == {1: "class_1", 2: "class_2", 3: "class_3"}
    results = detector.submit(batch_of(detector.spec, *pictures)).result()
    assert sum(map(len, results)) >= 40
    for found, wanted in zip(results, expected, strict=True):
        width, height = (wanted["boxes"][:, 2:] - wanted["boxes"][:, :2]).unbind(1)
        keep = (wanted["scores"] >= threshold) & (width > 0) & (height > 0)  # clipped to nothing: we leave these out
        assert_equal(found, *(wanted[key][keep] for key in ("boxes", "scores", "labels")))
