# SPDX-License-Identifier: Apache-2.0
"""The same detectors on a GPU: equal to the CPU, with two batches under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.detectors import build_detector
from pipeline.detectors.feeding import CpuFeed, CudaFeed, arguments
from pipeline.detectors.loading.recipe import Recipe
from pipeline.detectors.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Encoding
from pipeline.frame import Detections, InputSpec
from tests.models import Cells, CellsAsRows, batch_of, painted, save, tiny_ssd, ultralytics_metadata

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")

SPEC = InputSpec(96, 128)
FILES = ultralytics_metadata((96, 128), {0: "red", 1: "green", 2: "blue"})
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def both(path: Path, **options: Any) -> tuple[Any, Any]:
    on_cpu, on_gpu = (build_detector(path, device=device, **options) for device in ("cpu", "cuda"))
    on_gpu.warm([1, 2, 4])
    return on_cpu, on_gpu


def assert_close(one: Detections, other: Detections) -> None:
    assert one.class_id.tolist() == other.class_id.tolist()
    np.testing.assert_allclose(one.xyxy, other.xyxy, atol=0.05)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-3)


def test_the_gpu_finds_what_the_cpu_finds(tmp_path: Path) -> None:
    on_cpu, on_gpu = both(save(Cells(), tmp_path / "m.pt", FILES))
    assert (on_gpu.depth, on_gpu.model_info()["device"]) == (2, "cuda:0")
    batch = batch_of(SPEC, *[painted(SPEC, {(0, i): COLOURS[i], (2, i): (9, 200, 9)}) for i in range(3)], size=4)
    for one, other in zip(on_cpu.submit(batch).result(), on_gpu.submit(batch).result(), strict=True):
        assert len(one) == 2
        assert_close(one, other)


def test_many_batches_two_under_way(tmp_path: Path) -> None:
    _, on_gpu = both(save(Cells(), tmp_path / "m.pt", FILES))
    pictures = [painted(SPEC, {(i % 3, i % 4): COLOURS[i % 3]}) for i in range(24)]
    before = on_gpu.submit(batch_of(SPEC, pictures[0]))
    for index in range(1, 24):
        after = on_gpu.submit(batch_of(SPEC, pictures[index]))
        before.wait()
        assert before.result()[0].class_id.tolist() == [(index - 1) % 3]
        assert before.result()[0].xyxy[0, :2].tolist() == [32 * ((index - 1) % 4), 32 * ((index - 1) % 3)]
        before = after
    assert before.result()[0].class_id.tolist() == [23 % 3]


def test_torchvision_on_the_gpu(tmp_path: Path) -> None:
    on_cpu, on_gpu = both(save(tiny_ssd(), tmp_path / "m.pt"), input_size=(96, 128), confidence=0.25)
    rng = np.random.default_rng(0)
    batch = batch_of(SPEC, *[rng.integers(0, 256, SPEC.shape, dtype=np.uint8) for _ in range(2)])
    expected, found = on_cpu.submit(batch).result(), on_gpu.submit(batch).result()
    assert sum(map(len, expected)) > 4
    for one, other in zip(expected, found, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_mean_and_deviation_are_applied_on_the_device(layout: Any) -> None:
    encoding = Encoding(mean=IMAGENET_MEAN, std=IMAGENET_STD, layout=layout, sizes=True)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, SPEC.shape, dtype=np.uint8) for _ in range(2)]
    expected = CpuFeed(encoding, SPEC, 4).fill(pictures, 3)
    feed = CudaFeed(encoding, SPEC, 4, torch.device("cuda"))
    with torch.cuda.stream(feed.stream):
        given, sizes = arguments(encoding, feed.fill(pictures, 3))
    feed.stream.synchronize()
    np.testing.assert_allclose(given.cpu().numpy(), expected.numpy(), atol=1e-5)
    assert sizes.device.type == "cuda"
    assert sizes.tolist() == [[128, 96]] * 3


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_reduced_precision(precision: str, tmp_path: Path) -> None:
    _, on_gpu = both(save(Cells(), tmp_path / "m.pt", FILES), precision=precision)
    found = on_gpu.submit(batch_of(SPEC, painted(SPEC, {(1, 2): COLOURS[0]}))).result()[0]
    np.testing.assert_allclose(found.xyxy, [[64, 32, 96, 64]], atol=1.0)


def test_a_cuda_graph_answers_as_the_program_does(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt", FILES)
    recipe = Recipe(way="cuda_graph", shape=(2, 3, *SPEC.shape[:2]))
    plain = build_detector(path, device="cuda")
    graphed = build_detector(path, device="cuda", recipe=recipe)
    for detector in (plain, graphed):
        detector.warm([1, 2])
    assert graphed._network.module._special._threads.launch is not None, "recorded"
    pictures = [painted(SPEC, {(i % 3, i % 4): COLOURS[i % 3]}) for i in range(24)]
    before = graphed.submit(batch_of(SPEC, *pictures[:2]))
    for index in range(2, 24, 2):
        after = graphed.submit(batch_of(SPEC, *pictures[index : index + 2]))  # launched before the last one is read
        expected = plain.submit(batch_of(SPEC, *pictures[index - 2 : index])).result()
        for one, other in zip(expected, before.result(), strict=True):
            assert_close(one, other)
        before = after


def test_what_cannot_be_recorded_is_run_as_it_was(tmp_path: Path) -> None:
    """Suppression inside asks the CPU how many boxes there are."""
    path = save(CellsAsRows(), tmp_path / "m.pt")
    recipe = Recipe(way="cuda_graph", shape=(1, 3, *SPEC.shape[:2]))
    on_cpu = build_detector(path, device="cpu", input_size=SPEC.shape[:2])
    graphed = build_detector(path, device="cuda", recipe=recipe, input_size=SPEC.shape[:2])
    graphed.warm([1])
    batch = batch_of(SPEC, painted(SPEC, {(1, 2): COLOURS[0]}))
    assert_close(on_cpu.submit(batch).result()[0], graphed.submit(batch).result()[0])
