# SPDX-License-Identifier: Apache-2.0
"""The same detectors on a GPU: equal to the CPU, with two batches under way."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.detectors import build_detector
from pipeline.detectors.feeding import CpuFeed, CudaFeed, arguments
from pipeline.detectors.loading.recipe import Recipe
from pipeline.detectors.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Encoding
from pipeline.detectors.trial.verdict import Verdict
from pipeline.errors import ModelLoadError
from pipeline.frame import Detections, InputSpec
from pipeline.timing import now_ns
from tests.models import (
    NAMES,
    Cells,
    CellsAsRows,
    Hungry,
    OnCpuOnly,
    OutOfBounds,
    Stem,
    batch_of,
    painted,
    save,
    tiny_ssd,
    trace,
    ultralytics_metadata,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")

SPEC = InputSpec(96, 128)
FILES = ultralytics_metadata((96, 128), NAMES)
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def both(path: Path, **options: Any) -> tuple[Any, Any]:
    on_cpu, on_gpu = (build_detector(path, device=device, **options) for device in ("cpu", "cuda"))
    on_gpu.warm([1, 2, 4])
    return on_cpu, on_gpu


def assert_close(one: Detections, other: Detections) -> None:
    assert one.class_id.tolist() == other.class_id.tolist()
    np.testing.assert_allclose(one.xyxy, other.xyxy, atol=0.05)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-3)


def is_among(one: Detections, index: int, other: Detections) -> bool:
    near = np.abs(other.xyxy - one.xyxy[index]).max(1) < 1.0
    alike = np.abs(other.confidence - one.confidence[index]) < 5e-3
    return bool((near & alike & (other.class_id == one.class_id[index])).any())


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


def test_the_device_says_how_long_it_worked_on_each_of_two_batches(tmp_path: Path) -> None:
    """The second one is submitted while the device has the first: its wait is none of its work."""
    _, on_gpu = both(save(Cells(), tmp_path / "m.pt", FILES))
    stream = on_gpu._network._cuda_feed().stream
    batch = batch_of(SPEC, painted(SPEC, {(0, 0): COLOURS[0]}))
    began_ns = now_ns()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # some 50 ms, before both
    first, second = on_gpu.submit(batch), on_gpu.submit(batch)
    assert (first.device_ns, second.device_ns) == (None, None), "nobody has waited yet"
    first.wait()
    waited_ns = now_ns() - began_ns
    second.wait()
    assert waited_ns > 20_000_000, "they were queued behind something"
    assert 0 < first.device_ns < waited_ns / 2
    assert 0 < second.device_ns < waited_ns / 2
    assert second.result()[0].class_id.tolist() == [0]


def test_torchvision_on_the_gpu(tmp_path: Path) -> None:
    on_cpu, on_gpu = both(save(tiny_ssd(), tmp_path / "m.pt"), input_size=(96, 128), confidence=0.25)
    rng = np.random.default_rng(0)
    batch = batch_of(SPEC, *[rng.integers(0, 256, SPEC.shape, dtype=np.uint8) for _ in range(2)])
    expected, found = on_cpu.submit(batch).result(), on_gpu.submit(batch).result()
    assert sum(map(len, expected)) > 4
    for one, other in zip(expected, found, strict=True):
        # Ranks of near ties change with the rounding: each box is looked for among those of its class.
        assert sum(len(other) > 0 and is_among(one, index, other) for index in range(len(one))) >= 0.95 * len(one)


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
    on_gpu = build_detector(save(Cells(), tmp_path / "m.pt", FILES), device="cuda", precision=precision)
    on_gpu.warm([1])
    found = on_gpu.submit(batch_of(SPEC, painted(SPEC, {(1, 2): COLOURS[0]}))).result()[0]
    np.testing.assert_allclose(found.xyxy, [[64, 32, 96, 64]], atol=1.0)


def test_a_cuda_graph_answers_as_the_program_does(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt", FILES)
    recipe = Recipe(way="cuda_graph", shape=(2, 3, *SPEC.shape[:2]))
    plain = build_detector(path, device="cuda")
    graphed = build_detector(path, device="cuda", recipe=recipe)
    for detector in (plain, graphed):
        detector.warm([1, 2])
    recorded = graphed._network.module._special._threads
    assert recorded.launch is not None, "recorded"
    assert recorded.address == graphed._network._feed()._base.data_ptr(), "for the memory that the run's batches use"
    pictures = [painted(SPEC, {(i % 3, i % 4): COLOURS[i % 3]}) for i in range(24)]
    before = graphed.submit(batch_of(SPEC, *pictures[:2]))
    for index in range(2, 24, 2):
        after = graphed.submit(batch_of(SPEC, *pictures[index : index + 2]))  # launched before the last one is read
        expected = plain.submit(batch_of(SPEC, *pictures[index - 2 : index])).result()
        for one, other in zip(expected, before.result(), strict=True):
            assert_close(one, other)
        before = after


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_cuda_graph_in_reduced_precision(precision: Any, frozen: bool, tmp_path: Path) -> None:
    """Casts of weights are part of the recording, not memory that autocast lets go of."""
    path = save(Stem(), tmp_path / "m.pt", FILES)
    recipe = Recipe(way="cuda_graph", shape=(2, 3, *SPEC.shape[:2]), precision=precision, frozen=frozen)
    plain = build_detector(path, device="cuda", precision=precision, confidence=0.05)
    graphed = build_detector(path, device="cuda", precision=precision, recipe=recipe, confidence=0.05)
    for detector in (plain, graphed):
        detector.warm([2])
    assert graphed._network.module._special._threads.launch is not None
    rng = np.random.default_rng(0)
    for _ in range(5):
        torch.full((1 << 24,), torch.nan, device="cuda")  # what is given back holds no weights any more
        batch = batch_of(SPEC, *[rng.integers(0, 256, SPEC.shape, dtype=np.uint8) for _ in range(2)])
        for one, other in zip(plain.submit(batch).result(), graphed.submit(batch).result(), strict=True):
            assert len(one) == len(other) > 0
            np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-2)


def test_a_model_that_was_traced_on_a_cpu_runs_on_the_gpu(tmp_path: Path) -> None:
    """Tracing writes ``device="cpu"`` wherever a tensor is made; moving the file's tensors does not change that."""
    on_cpu, on_gpu = both(trace(Cells(), SPEC, tmp_path / "m.pt", FILES))
    batch = batch_of(SPEC, *[painted(SPEC, {(0, i): COLOURS[i]}) for i in range(3)])
    for one, other in zip(on_cpu.submit(batch).result(), on_gpu.submit(batch).result(), strict=True):
        assert len(one) == 1
        assert_close(one, other)


def test_a_model_that_was_traced_on_the_gpu_runs_on_a_cpu(tmp_path: Path) -> None:
    on_cpu = build_detector(trace(Cells(), SPEC, tmp_path / "m.pt", FILES, device="cuda"), device="cpu")
    found = on_cpu.submit(batch_of(SPEC, painted(SPEC, {(0, 1): COLOURS[2]}))).result()[0]
    assert found.class_id.tolist() == [2]


def test_what_runs_on_a_cpu_only_is_taken_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Asked for by ``auto``; what was asked for by name is refused."""
    path = save(OnCpuOnly(), tmp_path / "m.pt", FILES)
    with caplog.at_level(logging.WARNING):
        detector = build_detector(path)
    assert detector.model_info()["device"] == "cpu"
    assert "it does not run on cuda:0" in caplog.text
    with pytest.raises(ModelLoadError, match="same device"):
        build_detector(path, device="cuda")


def test_two_threads_with_two_batches_each(tmp_path: Path) -> None:
    _, on_gpu = both(save(Cells(), tmp_path / "m.pt", FILES))
    faults: list[str] = []

    def work(shift: int) -> None:
        on_gpu.warm([2])
        under_way: deque[tuple[int, Any]] = deque()
        for index in range(100):
            number = (index + shift) % 3
            cells = [(number, 1), (1, number)]
            batch = batch_of(SPEC, *[painted(SPEC, {cell: COLOURS[number]}) for cell in cells])
            under_way.append((number, on_gpu.submit(batch)))
            if len(under_way) == on_gpu.depth:
                expected, pending = under_way.popleft()
                if [found.class_id.tolist() for found in pending.result()] != [[expected]] * 2:
                    faults.append(f"{index}: {expected}")

    threads = [threading.Thread(target=work, args=(shift,)) for shift in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults


def test_no_memory_for_a_large_batch_and_then_again_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A real shortage: each picture takes a tenth of the card, and somebody else has half of it for a while."""
    monkeypatch.setattr("pipeline.detectors.capacity.PATIENCE", 3)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    path = save(Hungry(total // 10), tmp_path / "m.pt", FILES)
    on_gpu = build_detector(path, device="cuda", verdict=Verdict(8))
    others = torch.empty(total // 2, dtype=torch.uint8, device="cuda")
    pictures = [painted(SPEC, {(i % 3, i % 4): COLOURS[i % 3]}) for i in range(8)]

    def found() -> list[list[int]]:
        return [one.class_id.tolist() for one in on_gpu.submit(batch_of(SPEC, *pictures)).result()]

    expected = [[i % 3] for i in range(8)]
    with caplog.at_level(logging.INFO):
        assert found() == expected
        assert on_gpu._capacity.now in (2, 4)
        assert "no memory for a batch of 8" in caplog.text
        del others
        torch.cuda.empty_cache()
        for _ in range(8):
            assert found() == expected
    assert on_gpu._capacity.now == 8
    assert "batches of 8 are tried again" in caplog.text
    torch.cuda.empty_cache()


def test_a_gpu_that_is_lost_ends_the_run(tmp_path: Path) -> None:
    """An index out of bounds kills the process's CUDA context: no further batch can succeed, so none is tried."""
    path = save(OutOfBounds(), tmp_path / "m.pt", FILES)
    program = (
        "import sys, numpy as np, pipeline.errors\n"
        "from pipeline.detectors import build_detector\n"
        "from pipeline.frame import InputSpec\n"
        "from tests.models import batch_of\n"
        f"detector = build_detector({str(path)!r}, device='cuda', max_batch=1)\n"
        "spec = InputSpec(96, 128)\n"
        "white, grey = (batch_of(spec, np.full(spec.shape, level, np.uint8)) for level in (255, 99))\n"
        "detector.submit(grey).result()\n"
        "try:\n"
        "    detector.submit(white).result()\n"
        "except (pipeline.errors.InferenceError, pipeline.errors.DeviceLost) as error:\n"
        "    print(type(error).__name__, error)\n"
        "try:\n"
        "    detector.submit(grey).result()\n"
        "except pipeline.errors.DeviceLost as error:\n"
        "    print('lost:', error, flush=True)\n"
        "    import os; os._exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 7, done.stdout + done.stderr
    assert "lost: cuda:0 takes no more work in this process: " in done.stdout


def test_what_cannot_be_recorded_is_run_as_it_was(tmp_path: Path) -> None:
    """Suppression inside asks the CPU how many boxes there are."""
    path = save(CellsAsRows(), tmp_path / "m.pt")
    recipe = Recipe(way="cuda_graph", shape=(1, 3, *SPEC.shape[:2]))
    on_cpu = build_detector(path, device="cpu", input_size=SPEC.shape[:2])
    graphed = build_detector(path, device="cuda", recipe=recipe, input_size=SPEC.shape[:2])
    graphed.warm([1])
    batch = batch_of(SPEC, painted(SPEC, {(1, 2): COLOURS[0]}))
    assert_close(on_cpu.submit(batch).result()[0], graphed.submit(batch).result()[0])
