# SPDX-License-Identifier: Apache-2.0
"""Small DETR and RT-DETR networks and RF-DETR Nano with random weights, against their own post-processing.

Optional: ``pip install transformers`` and ``pip install rfdetr`` (both Apache-2.0). Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.detectors import build_detector
from pipeline.detectors.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from pipeline.frame import InputSpec
from tests.golden import assert_equal, scene, threshold_for
from tests.models import batch_of

pytestmark = pytest.mark.filterwarnings("ignore")

SIZE = (96, 128)


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", exc_type=ImportError)


def seeded(make: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return make().eval()


def imagenet(batch: Tensor) -> Tensor:
    return (batch - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


def traced(module: nn.Module, example: Any, path: Path) -> Path:
    with torch.no_grad():
        torch.jit.trace(module, example, strict=False, check_trace=False).save(str(path))
    return path


class AsTuple(nn.Module):
    """(logits, boxes), as a model with ``return_dict=False`` begins its tuple."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model(x)
        return found.logits, found.pred_boxes


class AsDict(AsTuple):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        found = self.model(x)
        return {"pred_logits": found.logits, "pred_boxes": found.pred_boxes}


@pytest.mark.parametrize("wrapper", [AsTuple, AsDict])
def test_detr(transformers: Any, wrapper: Any, tmp_path: Path) -> None:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1], layer_type="basic", out_features=["stage4"]
    )
    sizes = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    config = transformers.DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, num_queries=30, d_model=16, num_labels=5, **sizes
    )
    model = seeded(lambda: transformers.DetrForObjectDetection(config))
    pictures = [scene(InputSpec(*SIZE), seed) for seed in range(2)]
    batch = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture in pictures])
    file = traced(wrapper(model), imagenet(batch), tmp_path / "detr.pt")
    with torch.no_grad():
        outputs = model(imagenet(batch))
    threshold = threshold_for(outputs.logits.softmax(2)[..., :-1].amax(2), 30)
    expected = transformers.DetrImageProcessor().post_process_object_detection(outputs, threshold, [SIZE, SIZE])
    detector = build_detector(file, adapter="detr", input_size=SIZE, confidence=threshold, device="cpu")
    results = detector.submit(batch_of(detector.spec, *pictures)).result()
    assert sum(map(len, results)) == 30
    for found, wanted in zip(results, expected, strict=True):
        assert_equal(found, wanted["boxes"], wanted["scores"], wanted["labels"])


class Deployed(nn.Module):
    """What RT-DETR's ``deploy`` makes of a model: it scales boxes to the sizes given and picks the best 30 pairs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, orig_target_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.model(images)
        centre, size = found.pred_boxes[..., :2], found.pred_boxes[..., 2:]
        corners = torch.cat((centre - size / 2, centre + size / 2), 2) * orig_target_sizes.repeat(1, 2).unsqueeze(1)
        scores, index = found.logits.sigmoid().flatten(1).topk(30, 1)
        classes = found.logits.shape[2]
        boxes = corners.gather(1, (index // classes).unsqueeze(2).expand(-1, -1, 4))
        return index % classes, boxes, scores


def test_rtdetr(transformers: Any, tmp_path: Path) -> None:
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=[8, 16, 16],
        encoder_hidden_dim=16,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        num_queries=30,
        decoder_layers=1,
        decoder_ffn_dim=16,
        decoder_attention_heads=2,
        decoder_in_channels=[16, 16, 16],
        num_labels=5,
    )
    model = seeded(lambda: transformers.RTDetrForObjectDetection(config))
    pictures = [scene(InputSpec(*SIZE), seed) for seed in range(2)]
    batch = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture in pictures])
    file = traced(Deployed(model), (batch, torch.tensor([[128, 96]] * 2)), tmp_path / "rtdetr.pt")
    with torch.no_grad():
        outputs = model(batch)
    threshold = threshold_for(outputs.logits.sigmoid().flatten(1).topk(30, 1).values, 30)
    expected = transformers.RTDetrImageProcessor().post_process_object_detection(outputs, threshold, [SIZE, SIZE])
    detector = build_detector(file, input_size=SIZE, confidence=threshold, device="cpu")
    assert detector.model_info()["adapter"] == "rtdetr"
    results = detector.submit(batch_of(detector.spec, *pictures, size=2)).result()
    assert sum(map(len, results)) == 30
    for found, wanted in zip(results, expected, strict=True):
        assert_equal(found, wanted["boxes"], wanted["scores"], wanted["labels"])


@pytest.mark.slow
def test_rfdetr_from_the_picture_to_boxes_in_it(tmp_path: Path) -> None:
    """RF-DETR Nano as its export traces it, against ``RFDETR.predict`` on a picture of the network's size."""
    rfdetr = pytest.importorskip("rfdetr", exc_type=ImportError)
    import copy

    from PIL import Image

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        whole = rfdetr.RFDETRNano(pretrain_weights=None, device="cpu", num_classes=5)
    network = copy.deepcopy(whole.model.model).eval()
    network.export()
    side = whole.model.resolution
    shown = scene(InputSpec(side, side), 2)
    file = traced(network, torch.zeros(1, 3, side, side), tmp_path / "rfdetr.pt")
    with torch.no_grad():
        boxes, logits = torch.jit.load(str(file))(imagenet(torch.from_numpy(shown).permute(2, 0, 1)[None] / 255))[:2]
    assert boxes.shape[:2] == logits.shape[:2]
    threshold = threshold_for(logits.sigmoid(), 50)
    expected = whole.predict(Image.fromarray(shown), threshold=threshold)
    detector = build_detector(file, input_size=(side, side), confidence=threshold, device="cpu")
    assert detector.model_info()["adapter"] == "rfdetr"
    assert detector.spec == InputSpec(side, side, fit="stretch")
    found = detector.submit(batch_of(detector.spec, shown)).result()[0]
    assert len(found) == 50
    inside = type(found)(np.clip(found.xyxy, 0, side), found.confidence, found.class_id)
    assert_equal(inside, expected.xyxy, expected.confidence, expected.class_id, atol=0.1)
