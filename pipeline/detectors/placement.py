# SPDX-License-Identifier: Apache-2.0
"""Where a network runs and in which precision: the words of the configuration, checked against this machine."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch

from pipeline.detectors.network import Precision
from pipeline.errors import ModelLoadError

_DEVICES = Path("/dev")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


def choose_device(wanted: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as a device that exists.

    Raises:
        ModelLoadError: another word, or no such device here.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = wanted.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()) or (kind == "cpu" and index):
        raise ModelLoadError(f"device: {wanted!r} is not known; auto, cpu, cuda or cuda:N was expected")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ModelLoadError(f"device: {wanted} was asked for, but torch {torch.__version__} sees no GPU; use auto")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        raise ModelLoadError(f"device: {wanted} was asked for, but there are {count} GPUs, numbered from 0")
    return torch.device("cuda", int(index or 0))


def gpu_files() -> list[str]:
    """Names of the device files of NVIDIA's driver, one per GPU."""
    return sorted(path.name for path in _DEVICES.glob("nvidia[0-9]*"))


def lacks_bf16(device: torch.device) -> bool:
    """Whether the device is a CPU without instructions for bf16, which then costs several times what fp32 does
    (design/tuning.md). Of processors other than x86 it is not known."""
    has = torch.cpu.get_capabilities()
    here = device.type == "cpu" and has.get("architecture") == "x86_64"
    return here and not (has.get("avx512_bf16") or has.get("amx_bf16"))


def choose_precision(wanted: str, device: torch.device, quantized: bool) -> Precision:
    """The precision to run in; ``auto`` is fp32, the only one that needs no comparison of detections first.

    Args:
        wanted: one of :data:`PRECISIONS`.
        device: where the network runs.
        quantized: the file computes in int8 already; then it runs as it is.

    Raises:
        ModelLoadError: another word, or a precision that is not available here.
    """
    if wanted not in PRECISIONS:
        near = difflib.get_close_matches(wanted, PRECISIONS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ModelLoadError(f"precision: {wanted!r} is not known; one of {', '.join(PRECISIONS)} was expected{hint}")
    if wanted == "int8":
        if not quantized:
            raise ModelLoadError(
                "precision: int8 was asked for, but the model file is not quantised; "
                "give a file that was quantised when it was exported, or another precision"
            )
        return "int8"
    if quantized:
        if wanted != "auto":
            raise ModelLoadError(f"precision: {wanted} was asked for, but the model file is quantised; use auto")
        return "int8"
    if wanted == "fp16" and device.type == "cpu":
        raise ModelLoadError(
            f"precision: fp16 needs a GPU; on this CPU use {'' if lacks_bf16(device) else 'bf16 or '}fp32"
        )
    if wanted == "bf16":
        return "bf16"
    return "fp16" if wanted == "fp16" else "fp32"
