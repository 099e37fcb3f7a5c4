# SPDX-License-Identifier: Apache-2.0
"""Files that Ultralytics exports (random weights), against Ultralytics' own post-processing and prediction.

Optional: ``pip install ultralytics`` (AGPL-3.0, used by these tests only). Nothing is downloaded: the networks are made
from the architecture files that come with the package.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.detectors import build_detector
from pipeline.detectors.adapter import Limits
from pipeline.detectors.adapters import ADAPTERS
from pipeline.frame import Picture
from pipeline.stages import Letterbox
from tests.golden import assert_equal, scene, threshold_for
from tests.models import batch_of

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

SIDE = 96
NETWORKS = ("yolov5n", "yolov8n", "yolo11n", "yolo26n")


@pytest.fixture(scope="module")
def ultralytics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("settings")))
        patch.setenv("YOLO_OFFLINE", "true")
        patch.setenv("YOLO_VERBOSE", "false")
        threads = torch.get_num_threads()
        yield pytest.importorskip("ultralytics", exc_type=ImportError)
        torch.set_num_threads(threads)


def export(ultralytics: Any, network: str, folder: Path, **options: Any) -> Path:
    """A file as ``yolo export format=torchscript`` writes it, with scores that are worth comparing."""
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = ultralytics.YOLO(f"{network}.yaml", task="detect", verbose=False)
        for norm in model.model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):  # as if trained: nothing vanishes on the way to the head
                norm.momentum = None
        with torch.no_grad():
            model.model.train()(torch.rand(4, 3, SIDE, SIDE))
        model.model.eval()
        head = model.model.model[-1]
        for prefix in ("", "one2one_"):
            for classes, boxes in zip(
                getattr(head, f"{prefix}cv3", None) or (), getattr(head, f"{prefix}cv2", None) or (), strict=True
            ):
                torch.nn.init.normal_(classes[-1].weight, std=0.003)  # no score so high that others equal it
                torch.nn.init.constant_(classes[-1].bias, -3.0)
                torch.nn.init.normal_(boxes[-1].weight, std=0.01)  # sides are distances: not to be negative
                torch.nn.init.constant_(boxes[-1].bias, 2.0)
        return folder / model.export(format="torchscript", imgsz=SIDE, verbose=False, **options)


def outputs_of(file: Path, pictures: list[Any]) -> torch.Tensor:
    batch = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture in pictures])
    with torch.inference_mode():
        found = torch.jit.load(str(file))(batch)
    output: torch.Tensor = found[0] if isinstance(found, list | tuple) else found
    return output


@pytest.mark.parametrize("network", NETWORKS)
def test_plain_exports_with_its_suppression(ultralytics: Any, network: str, tmp_path: Path) -> None:
    from ultralytics.utils.nms import non_max_suppression

    file = export(ultralytics, network, tmp_path)
    probe = build_detector(file, device="cpu")
    assert probe.model_info()["adapter"] == "ultralytics"
    assert probe.model_info()["input_spec"]["stride"] == 32
    assert len(probe.labels) == 80
    pictures = [scene(probe.spec, seed) for seed in range(2)]
    output = outputs_of(file, pictures)
    threshold = threshold_for(output[:, 4:].amax(1), 200)
    # In double precision: it moves boxes of class c by 7680 c pixels, where float32 rounds to 1/16 of a pixel.
    expected = non_max_suppression(output.double(), threshold, 0.5, max_det=300)
    adapter = ADAPTERS["ultralytics"].make(output, probe.spec, {})
    parsed = adapter.parse(output, 2, Limits(threshold, 0.5), probe.spec)
    assert sum(map(len, parsed.detections)) >= 20
    for found, rows in zip(parsed.detections, expected, strict=True):
        assert_equal(found, rows[:, :4], rows[:, 4], rows[:, 5])


def test_end_to_end_heads(ultralytics: Any, tmp_path: Path) -> None:
    file = export(ultralytics, "yolo26n", tmp_path, nms=False)
    probe = build_detector(file, device="cpu")
    assert probe.model_info()["adapter"] == "rows"
    pictures = [scene(probe.spec, seed) for seed in range(2)]
    output = outputs_of(file, pictures)
    assert output.shape[2] == 6
    threshold = threshold_for(output[..., 4], 100)
    parsed = ADAPTERS["rows"].make(output, probe.spec, {}).parse(output, 2, Limits(threshold), probe.spec)
    assert sum(map(len, parsed.detections)) > 20
    for found, rows in zip(parsed.detections, output, strict=True):
        kept = rows[(rows[:, 4] >= threshold) & (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])]
        assert_equal(found, kept[:, :4], kept[:, 4], kept[:, 5])


def test_exports_with_suppression_inside(ultralytics: Any, tmp_path: Path) -> None:
    file = export(ultralytics, "yolo11n", tmp_path, nms=True, batch=2, conf=0.05, iou=0.5)
    detector = build_detector(file, confidence=0.05, device="cpu")
    assert detector.model_info()["adapter"] == "rows"
    pictures = [scene(detector.spec, seed) for seed in range(2)]
    output = outputs_of(file, pictures)
    parsed = ADAPTERS["rows"].make(output, detector.spec, {}).parse(output, 2, Limits(0.05), detector.spec)
    assert sum(map(len, parsed.detections)) > 5
    for found, rows in zip(parsed.detections, output, strict=True):
        kept = rows[rows[:, 4] >= 0.05]
        assert_equal(found, kept[:, :4], kept[:, 4], kept[:, 5])


def test_a_whole_prediction_from_the_picture_to_boxes_in_it(ultralytics: Any, tmp_path: Path) -> None:
    file = export(ultralytics, "yolov8n", tmp_path)
    shown = np.kron(scene(build_detector(file, device="cpu").spec, 5)[:72], np.ones((2, 2, 1), np.uint8))
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()):
        model = ultralytics.YOLO(str(file), task="detect", verbose=False)
        options = {"imgsz": SIDE, "iou": 0.5, "device": "cpu", "verbose": False, "max_det": 300}
        everything = model.predict(shown[..., ::-1].copy(), conf=0.01, **options)[0].boxes
        threshold = threshold_for(everything.conf, min(60, len(everything) - 2))
        expected = model.predict(shown[..., ::-1].copy(), conf=threshold, **options)[0].boxes
    detector = build_detector(file, confidence=threshold, iou=0.5, device="cpu")
    out = np.empty(detector.spec.shape, np.uint8)
    geometry = Letterbox(antialias=False).prepare(Picture((shown,), "rgb"), detector.spec, out)
    found = detector.submit(batch_of(detector.spec, out)).result()[0]
    assert len(found) > 10
    inside = type(found)(geometry.to_source(found.xyxy), found.confidence, found.class_id)
    assert_equal(inside, expected.xyxy, expected.conf, expected.cls, atol=0.05)
