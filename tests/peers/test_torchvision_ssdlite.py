# SPDX-License-Identifier: Apache-2.0
"""torchvision's SSD and SSDlite, run by torchvision in eager mode, against the scripted file through our detector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from pipeline.detectors import build_detector
from pipeline.frame import InputSpec
from tests.models import batch_of, save, tiny_ssd


def ssdlite() -> nn.Module:
    """Random weights, all classes about equally likely everywhere: hundreds of detections per picture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model: nn.Module = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):  # as if trained: nothing vanishes on the way through the network
                norm.momentum = None
        model.train()
        with torch.no_grad():
            model.backbone(torch.rand(4, 3, 320, 320))
    return model.eval()


def small_ssd() -> nn.Module:
    return tiny_ssd(classes=4, side=320, seed=7)


@pytest.mark.parametrize("make", [small_ssd, pytest.param(ssdlite, marks=pytest.mark.slow)])
def test_scripted_through_the_adapter_equals_eager(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = make()
    threshold = 0.3
    detector = build_detector(save(model, tmp_path / "ssd.pt"), confidence=threshold, device="cpu")
    assert detector.model_info()["adapter"] == "torchvision"
    assert detector.spec == InputSpec(320, 320)
    rng = np.random.default_rng(0)
    pictures = [np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((40, 40, 1))).astype(np.uint8) for _ in range(2)]
    found = detector.submit(batch_of(detector.spec, *pictures)).result()
    with torch.inference_mode():
        expected = model([torch.from_numpy(picture).permute(2, 0, 1).float() / 255 for picture in pictures])
    for ours, theirs in zip(found, expected, strict=True):
        keep = theirs["scores"] >= threshold
        boxes, scores, labels = (theirs[key][keep].numpy() for key in ("boxes", "scores", "labels"))
        assert len(scores) >= 10
        # Folding batch norm into convolutions moves scores by some 1e-7: rows at the threshold may differ.
        clear = scores > threshold + 1e-4
        assert clear.sum() <= len(ours) <= (scores > threshold - 1e-4).sum() + 1
        for box, score, label in zip(boxes[clear], scores[clear], labels[clear], strict=True):
            close = np.abs(ours.xyxy - box).max(1) < 0.05
            match = close & (ours.class_id == label) & (np.abs(ours.confidence - score) < 1e-4)
            assert match.any(), f"torchvision found {label} at {box} with {score:.4f}, we did not"
