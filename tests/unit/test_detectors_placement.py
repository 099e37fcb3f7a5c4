# SPDX-License-Identifier: Apache-2.0
"""Device and precision: what is granted and what is refused, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.detectors import build_detector, placement
from pipeline.detectors.placement import choose_device, choose_precision, lacks_bf16
from pipeline.errors import ModelLoadError
from tests.models import Cells, save

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == GPU
    assert choose_device("cuda") == GPU
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cpu") == CPU
    with pytest.raises(ModelLoadError, match="there are 2 GPUs"):
        choose_device("cuda:2")


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelLoadError, match="sees no GPU"):
        choose_device("cuda:0")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_gpu_that_cannot_be_used_is_named(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(placement, "_DEVICES", tmp_path)
    (tmp_path / "nvidia0").touch()
    build_detector(save(Cells(), tmp_path / "m.pt"), device=device, adapter="ultralytics", input_size=(64, 64))
    named = [record.message for record in caplog.records if "nvidia0" in record.message]
    assert len(named) == (device == "auto")


@pytest.mark.parametrize("word", ["gpu", "cuda:x", "cpu:1", "mps", ""])
def test_unknown_devices(word: str) -> None:
    with pytest.raises(ModelLoadError, match="auto, cpu, cuda or cuda:N"):
        choose_device(word)


@pytest.mark.parametrize(
    ("wanted", "device", "quantized", "given"),
    [
        ("auto", CPU, False, "fp32"),
        ("auto", GPU, False, "fp32"),
        ("fp32", CPU, False, "fp32"),
        ("bf16", CPU, False, "bf16"),
        ("fp16", GPU, False, "fp16"),
        ("auto", CPU, True, "int8"),
        ("int8", CPU, True, "int8"),
    ],
)
def test_precision(wanted: str, device: torch.device, quantized: bool, given: str) -> None:
    assert choose_precision(wanted, device, quantized) == given


@pytest.mark.parametrize(
    ("wanted", "device", "quantized", "said"),
    [
        ("int8", CPU, False, "not quantised.*another precision"),
        ("bf16", CPU, True, "the model file is quantised"),
        ("fp16", CPU, False, "needs a GPU"),
        ("fp64", CPU, False, "did you mean fp"),
        ("double", CPU, False, "one of auto, fp32, bf16, fp16, int8"),
    ],
)
def test_refused_precision(wanted: str, device: torch.device, quantized: bool, said: str) -> None:
    with pytest.raises(ModelLoadError, match=said):
        choose_precision(wanted, device, quantized)


@pytest.mark.parametrize(
    ("has", "lacks"),
    [
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, False),
        ({"architecture": "aarch64"}, False),
        ({}, False),
    ],
)
def test_bf16_is_advised_against_where_it_only_costs(
    has: dict[str, object],
    lacks: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert lacks_bf16(CPU) == lacks
    assert not lacks_bf16(GPU)
    with pytest.raises(ModelLoadError, match="on this CPU use fp32" if lacks else "on this CPU use bf16 or fp32"):
        choose_precision("fp16", CPU, False)
    path = save(Cells(), tmp_path / "m.pt")
    for precision in ("bf16", "auto"):
        build_detector(path, device="cpu", adapter="ultralytics", input_size=(64, 64), precision=precision)
    said = [record.message for record in caplog.records if "bf16" in record.message]
    assert (
        said
        == ["precision: bf16 is several times as slow as fp32 on this CPU, which has no instructions for it"] * lacks
    )
