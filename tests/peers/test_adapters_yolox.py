# SPDX-License-Identifier: Apache-2.0
"""A small YOLOX with random weights, exported in both ways, against that project's preprocessing and post-processing.

Optional: ``pip install --no-build-isolation yolox`` (Apache-2.0).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.detectors import build_detector
from pipeline.frame import Detections, InputSpec, Picture
from pipeline.stages import Letterbox
from tests.golden import assert_equal, scene, threshold_for
from tests.models import batch_of

pytestmark = pytest.mark.filterwarnings("ignore")

CLASSES = 3
SIZE = (96, 128)


@pytest.fixture(scope="module")
def network() -> Any:
    models = pytest.importorskip("yolox.models", exc_type=ImportError)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = models.YOLOX(models.YOLOPAFPN(0.33, 0.125), models.YOLOXHead(CLASSES, 0.125))
        for norm in model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):  # as if trained: nothing vanishes on the way to the head
                norm.momentum = None
        with torch.no_grad():
            model.backbone.train()(torch.rand(4, 3, *SIZE) * 255)
            features = model.backbone.eval()(torch.rand(4, 3, *SIZE) * 255)
            head = model.head
            for level, x in enumerate(features):
                stem = head.stems[level].train()(x)
                head.cls_convs[level].train()(stem)
                head.reg_convs[level].train()(stem)
    return model.eval()


def trace(network: Any, decoded: bool, path: Path) -> Path:
    """As ``export_torchscript.py`` does."""
    network.head.decode_in_inference = decoded
    with torch.no_grad():
        torch.jit.trace(network, torch.rand(1, 3, *SIZE), check_trace=False).save(str(path))
    return path


@pytest.mark.parametrize("decoded", [True, False], ids=["decoded", "raw"])
def test_from_the_picture_to_boxes_in_it(network: Any, decoded: bool, tmp_path: Path) -> None:
    from yolox.data.data_augment import preproc
    from yolox.utils import postprocess

    file = trace(network, decoded, tmp_path / "yolox.torchscript.pt")
    shown = np.kron(scene(InputSpec(72, 128), 4), np.ones((2, 2, 1), np.uint8))
    given, ratio = preproc(np.ascontiguousarray(shown[..., ::-1]), SIZE)
    network.head.decode_in_inference = True
    with torch.no_grad():
        output = network(torch.from_numpy(given).unsqueeze(0))
    threshold = threshold_for((output[..., 4:5] * output[..., 5:]).amax(2), 100)
    rows = postprocess(output.double(), CLASSES, threshold, 0.5)[0]
    detector = build_detector(
        file, adapter="yolox", input_size=SIZE, confidence=threshold, iou=0.5, device="cpu", trim=False
    )
    assert detector.spec == InputSpec(*SIZE, colour="bgr", fit="top_left")
    out = np.empty(detector.spec.shape, np.uint8)
    geometry = Letterbox(antialias=False).prepare(Picture((shown,), "rgb"), detector.spec, out)
    np.testing.assert_array_equal(out.transpose(2, 0, 1), given)
    found = detector.submit(batch_of(detector.spec, out)).result()[0]
    assert len(found) > 10
    whole = Detections(geometry.to_source(found.xyxy), found.confidence, found.class_id)
    height, width = shown.shape[:2]
    limit = torch.tensor([width, height, width, height])
    boxes = torch.minimum((rows[:, :4] / ratio).clamp(min=0), limit)  # the project leaves boxes beyond the borders
    assert_equal(whole, boxes, rows[:, 4] * rows[:, 5], rows[:, 6], atol=0.05)
