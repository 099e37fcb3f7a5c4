# SPDX-License-Identifier: Apache-2.0
"""The detector as the flow uses it: batches, padding, buffers, threads, counters and errors."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.detectors import build_detector
from pipeline.detectors.feeding import CpuFeed
from pipeline.detectors.intra_op import intra_op_threads
from pipeline.detectors.network import Network
from pipeline.detectors.preprocessing import Encoding
from pipeline.detectors.trial.verdict import Verdict
from pipeline.errors import InferenceError
from pipeline.frame import Detections, InputSpec, Uint8Array
from tests.models import (
    NAMES,
    Cells,
    CellsAsRows,
    CellsWithObjectness,
    ForgetsOnWhite,
    NanWhereRed,
    RaisesOnWhite,
    batch_of,
    painted,
    save,
    tiny_ssd,
    ultralytics_metadata,
)

SIZE = (96, 128)
SPEC = InputSpec(*SIZE)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def built(module: nn.Module, folder: Path, **options: Any) -> Any:
    return build_detector(
        save(module, folder / "m.torchscript", ultralytics_metadata(SIZE, NAMES)), device="cpu", **options
    )


def some_pictures(count: int, seed: int = 0) -> list[Uint8Array]:
    rng = np.random.default_rng(seed)
    tints = rng.integers(0, 128, (count, 3), np.uint8)
    return [rng.integers(0, 128, SPEC.shape, np.uint8) + tint for tint in tints]


def assert_equal(one: Detections, other: Detections) -> None:
    np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-4)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-6)
    assert one.class_id.tolist() == other.class_id.tolist()


@pytest.mark.parametrize("module", [Cells(1.4), CellsWithObjectness(), CellsAsRows()], ids=lambda m: type(m).__name__)
def test_a_picture_alone_gives_what_it_gives_in_any_batch(module: nn.Module, tmp_path: Path) -> None:
    adapter = {"Cells": "ultralytics", "CellsWithObjectness": "yolov5", "CellsAsRows": "rows"}[type(module).__name__]
    detector = built(module, tmp_path, adapter=adapter, confidence=0.3)
    pictures = some_pictures(5)
    alone = [detector.submit(batch_of(SPEC, picture)).result()[0] for picture in pictures]
    assert sum(len(found) for found in alone) > 10
    for size in (5, 8):
        for one, other in zip(alone, detector.submit(batch_of(SPEC, *pictures, size=size)).result(), strict=True):
            assert_equal(one, other)
    assert_equal(alone[3], detector.submit(batch_of(SPEC, pictures[3], pictures[0], size=4)).result()[0])


def test_torchvision_alone_gives_what_it_gives_in_any_batch(tmp_path: Path) -> None:
    detector = build_detector(save(tiny_ssd(), tmp_path / "m.pt"), input_size=SIZE, confidence=0.2, device="cpu")
    pictures = some_pictures(3)
    alone = [detector.submit(batch_of(SPEC, picture)).result()[0] for picture in pictures]
    assert sum(len(found) for found in alone) > 10
    for one, other in zip(alone, detector.submit(batch_of(SPEC, *pictures, size=4)).result(), strict=True):
        assert_equal(one, other)


def test_boxes_and_scores_are_those_of_the_picture(tmp_path: Path) -> None:
    detector = built(Cells(), tmp_path)
    picture = painted(SPEC, {(0, 1): RED, (1, 2): (0, 204, 0), (2, 3): (0, 0, 153)})
    found = detector.submit(batch_of(SPEC, picture)).result()[0]
    np.testing.assert_allclose(found.xyxy, [[32, 0, 64, 32], [64, 32, 96, 64], [96, 64, 128, 96]])
    np.testing.assert_allclose(found.confidence, [1.0, 0.8, 0.6], atol=1e-4)
    assert found.class_id.tolist() == [0, 1, 2]


def test_the_result_can_be_asked_for_twice(tmp_path: Path) -> None:
    pending = built(Cells(), tmp_path).submit(batch_of(SPEC, painted(SPEC, {(0, 1): RED})))
    pending.wait()
    assert pending.result() is pending.result()


def test_a_result_outlives_the_next_batch(tmp_path: Path) -> None:
    """The input buffer is used again; outputs must not live in it."""
    detector = built(Cells(), tmp_path)
    first = detector.submit(batch_of(SPEC, painted(SPEC, {(0, 1): RED})))
    second = detector.submit(batch_of(SPEC, painted(SPEC, {(2, 3): BLUE})))
    assert first.result()[0].class_id.tolist() == [0]
    assert second.result()[0].class_id.tolist() == [2]


@pytest.mark.parametrize(
    "encoding", [Encoding(), Encoding("uint8", 1.0), Encoding(scale=1.0)], ids=["unit", "bytes", "float bytes"]
)
def test_pictures_become_a_channels_last_batch_without_new_memory(encoding: Encoding) -> None:
    feed = CpuFeed(encoding, SPEC, 4)
    pictures = some_pictures(3)
    batch = feed.fill(pictures, 4)
    assert batch.shape == (4, 3, *SIZE)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch.dtype == (torch.uint8 if encoding.dtype == "uint8" else torch.float32)
    expected = np.stack([*pictures, np.full(SPEC.shape, 114, np.uint8)]).transpose(0, 3, 1, 2) * encoding.scale
    np.testing.assert_allclose(batch.numpy(), expected, rtol=1e-6)
    address = batch.data_ptr()
    again = feed.fill(pictures[:1], 2)
    assert again.data_ptr() == address
    np.testing.assert_allclose(again.numpy(), expected[[0, 3]], rtol=1e-6)


def test_pictures_of_any_memory_are_taken(tmp_path: Path) -> None:
    detector = built(Cells(), tmp_path)
    picture = painted(SPEC, {(0, 1): RED})
    read_only = picture.copy()
    read_only.flags.writeable = False
    wide = np.zeros((96, 256, 3), np.uint8)
    wide[:, :128] = picture
    mirrored = np.ascontiguousarray(picture[:, ::-1])[:, ::-1]
    found = detector.submit(batch_of(SPEC, read_only, wide[:, :128], mirrored)).result()
    assert [one.xyxy.tolist() for one in found] == [[[32, 0, 64, 32]]] * 3


def test_the_padding_has_the_colour_of_the_spec() -> None:
    class Means(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, 2, 3))

    network = Network(Means(), Encoding(), InputSpec(8, 8, pad_value=51), torch.device("cpu"), "fp32", 4)
    bright = np.full((8, 8, 3), 255, np.uint8)
    network.run([bright] * 4, 4)
    outputs, event = network.run([bright], 3)
    assert event is None
    np.testing.assert_allclose(outputs.numpy(), [1.0, 0.2, 0.2], rtol=1e-5)


def test_two_threads_at_once_agree_with_one(tmp_path: Path) -> None:
    detector = built(Cells(1.4), tmp_path, confidence=0.3)
    batches = [batch_of(SPEC, *some_pictures(3, seed)) for seed in range(6)]
    expected = [detector.submit(batch).result() for batch in batches]
    start = threading.Barrier(2)
    found: dict[int, list[list[Detections]]] = {}

    def work(worker: int) -> None:
        detector.warm([3])
        start.wait(20)
        found[worker] = [detector.submit(batch).result() for batch in batches for _ in range(3)]

    workers = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert set(found) == {0, 1}
    for results in found.values():
        for one, other in zip(results, [batch for batch in expected for _ in range(3)], strict=True):
            for a, b in zip(one, other, strict=True):
                assert_equal(a, b)


def test_each_thread_has_its_own_buffers_and_thread_count(tmp_path: Path) -> None:
    detector = built(Cells(), tmp_path, threads=1)
    seen: list[int] = []

    def work() -> None:
        torch.set_num_threads(2)
        detector.warm([1, 2])
        seen.append(torch.get_num_threads())

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(60)
    assert seen == [1]


class Stepping:
    """A clock that moves on by a fixed step whenever it is read."""

    def __init__(self, step_ns: int) -> None:
        self.step_ns = step_ns
        self.time_ns = 0

    def now_ns(self) -> int:
        self.time_ns += self.step_ns
        return self.time_ns

    def wall_ns(self) -> int:
        return 0


class Counting(nn.Module):
    """Notes the batch sizes that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.size(0))
        return torch.zeros(x.size(0), 7, 4)


@pytest.mark.parametrize(("step_s", "runs"), [(0.1, [4, 2, 1, 4, 2, 1]), (2.0, [4, 2]), (9.0, [])])
def test_warming_runs_every_size_twice_within_its_budget(step_s: float, runs: list[int]) -> None:
    from pipeline.detectors.adapter import Limits
    from pipeline.detectors.adapters import Ultralytics
    from pipeline.detectors.engine import TorchScriptDetector

    module = Counting()
    network = Network(module, Encoding(), SPEC, torch.device("cpu"), "fp32", 4)
    clock = Stepping(int(step_s * 1e9))
    detector = TorchScriptDetector(network, Ultralytics(3), Limits(), NAMES, path="m", verdict=Verdict(4), clock=clock)
    detector.warm([1, 2, 4])
    assert module.seen == runs


def test_a_model_that_raises_becomes_one_line_and_spares_the_next_batch(tmp_path: Path) -> None:
    detector = built(RaisesOnWhite(), tmp_path)
    good = painted(SPEC, {(0, 1): RED})
    poison = np.full(SPEC.shape, 255, np.uint8)
    with pytest.raises(InferenceError, match=r"the model failed on a batch of 2: .*poison picture") as error:
        detector.submit(batch_of(SPEC, good, poison))
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is not None
    assert detector.submit(batch_of(SPEC, good)).result()[0].class_id.tolist() == [0]


def test_one_output_too_few_is_an_error_that_names_both_shapes(tmp_path: Path) -> None:
    detector = built(ForgetsOnWhite(), tmp_path)
    poison = np.full(SPEC.shape, 255, np.uint8)
    with pytest.raises(InferenceError, match=r"returned \(1, 7, 12\) float32; \(2, 7, anchors\) was expected"):
        detector.submit(batch_of(SPEC, poison, poison)).result()


def test_rows_that_are_not_finite_are_removed_and_counted(tmp_path: Path) -> None:
    detector = built(NanWhereRed(), tmp_path)
    bad = painted(SPEC, {(0, 0): RED, (1, 1): RED, (2, 2): BLUE, (0, 2): GREEN})
    good = painted(SPEC, {(0, 2): GREEN})
    found = detector.submit(batch_of(SPEC, bad, good, size=4)).result()
    assert [one.class_id.tolist() for one in found] == [[1], [1]]
    assert (detector.nonfinite_rows, detector.nonfinite_frames) == (3, 1)
    detector.submit(batch_of(SPEC, bad)).result()
    assert (detector.nonfinite_rows, detector.nonfinite_frames) == (6, 2)


@pytest.mark.parametrize("shape", [(95, 128, 3), (128, 96, 3), (96, 128), (96, 128, 4)])
def test_an_input_of_the_wrong_shape_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="the detector takes"):
        built(Cells(), tmp_path).submit(batch_of(SPEC, np.zeros(shape, np.uint8)))


def test_a_batch_beyond_the_largest_is_refused(tmp_path: Path) -> None:
    detector = built(Cells(), tmp_path, max_batch=2)
    with pytest.raises(InferenceError, match="3 padded to 3: 1 to 2"):
        detector.submit(batch_of(SPEC, *some_pictures(3)))


def test_closed(tmp_path: Path) -> None:
    detector = built(Cells(), tmp_path)
    detector.close()
    with pytest.raises(InferenceError, match="closed"):
        detector.submit(batch_of(SPEC, *some_pictures(1)))


def test_model_info_is_what_the_report_wants(tmp_path: Path) -> None:
    import hashlib

    detector = built(Cells(), tmp_path, max_batch=4)
    path = tmp_path / "m.torchscript"
    info = detector.model_info()
    assert info.pop("verdict")["largest"] == 4
    assert info == {
        "path": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": "torchscript",
        "adapter": "ultralytics",
        "input": [96, 128],
        "input_spec": {
            "size": [96, 128],
            "layout": "nchw",
            "dtype": "float32",
            "colour": "rgb",
            "scale": 1 / 255,
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "fit": "letterbox",
            "pad_value": 114,
            "stride": 32,
            "as_list": False,
            "extra_inputs": [],
        },
        "trim": 0,
        "device": "cpu",
        "precision": "fp32",
        "max_batch": 4,
    }
    assert set(detector.startup_s) == {"load", "probe"}
    assert detector.depth == 1


def test_bf16_gives_nearly_the_same(tmp_path: Path) -> None:
    class Convolved(Cells):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Conv2d(3, 3, 1, bias=False)
            self.mix.weight.data = torch.eye(3).reshape(3, 3, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            boxes, scores = self.cells(self.mix(x))
            return torch.cat((boxes, scores.to(boxes.dtype)), 1)

    picture = painted(SPEC, {(0, 1): RED, (1, 2): (0, 190, 0)})
    exact = built(Convolved(), tmp_path).submit(batch_of(SPEC, picture)).result()[0]
    reduced = built(Convolved(), tmp_path, precision="bf16")
    assert reduced.model_info()["precision"] == "bf16"
    found = reduced.submit(batch_of(SPEC, picture)).result()[0]
    assert found.class_id.tolist() == exact.class_id.tolist() == [0, 1]
    np.testing.assert_allclose(found.confidence, exact.confidence, atol=0.01)
    assert abs(float(found.confidence[1] - exact.confidence[1])) > 0, "the reduced precision must really be in use"


def test_a_quantised_file_runs_as_int8(tmp_path: Path) -> None:
    from torch.ao import quantization

    class Quantised(Cells):
        def __init__(self) -> None:
            super().__init__()
            self.enter = quantization.QuantStub()
            self.mix = nn.Conv2d(3, 3, 1, bias=False)
            self.mix.weight.data = torch.eye(3).reshape(3, 3, 1, 1)
            self.leave = quantization.DeQuantStub()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            boxes, scores = self.cells(self.leave(self.mix(self.enter(x))))
            return torch.cat((boxes, scores), 1)

    module = Quantised().eval()
    module.qconfig = quantization.get_default_qconfig("x86")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.prepare(module, inplace=True)
        module(torch.rand(2, 3, *SIZE))
        quantization.convert(module, inplace=True)
    detector = built(module, tmp_path, precision="int8")
    assert detector.model_info()["precision"] == "int8"
    found = detector.submit(batch_of(SPEC, painted(SPEC, {(0, 1): RED, (1, 2): (0, 190, 0)}))).result()[0]
    assert found.class_id.tolist() == [0, 1]
    np.testing.assert_allclose(found.confidence, [1.0, 190 / 255], atol=0.02)


def test_torch_is_not_imported_before_a_detector_is_built() -> None:
    program = "import pipeline.detectors, pipeline.detectors.loading.archive, pipeline.detectors.loading.metadata, sys"
    check = "print(sorted({'torch', 'torchvision', 'cv2', 'av'} & set(sys.modules)))"
    command = [sys.executable, "-c", f"{program}; {check}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_probing_leaves_the_callers_thread_count_alone(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with intra_op_threads(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        built(Cells(), tmp_path, threads=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
