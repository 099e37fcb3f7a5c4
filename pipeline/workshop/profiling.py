# SPDX-License-Identifier: Apache-2.0
"""Where a detector's time and memory go: torch's profiler over real frames, operator by operator."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from pipeline.detectors.engine import TorchScriptDetector
from pipeline.detectors.intra_op import intra_op_threads
from pipeline.detectors.loading.builtin import PREFIX, load_builtin
from pipeline.detectors.loading.load import load_model
from pipeline.errors import SinkError
from pipeline.frame import Batch, Capture
from pipeline.host.kineto import silent
from pipeline.timing import now_ns
from pipeline.workshop.frames import MAX_BYTES, items
from pipeline.workshop.swapping import running

_WARM = 3
_CONVOLUTION = "conv"


@dataclass(frozen=True, slots=True)
class Operator:
    """One kind of operator, all its calls together, per frame.

    Attributes:
        name: as torch names it.
        calls: per frame.
        cpu_ms, device_ms: its own time (without the operators that it calls) per frame; the device is the GPU.
        cpu_mb, device_mb: memory that it took minus what it gave back, per frame, in MiB.
        share: of the time of all operators, 0..1: GPU time where a GPU was used, else CPU time.
    """

    name: str
    calls: float
    cpu_ms: float
    device_ms: float
    cpu_mb: float
    device_mb: float
    share: float


@dataclass(frozen=True, slots=True)
class Profile:
    """What was found.

    Attributes:
        device, precision, adapter: as the report of a run names them.
        frames: profiled ones.
        first_ms, second_ms: time of the first two calls of a freshly loaded program: torch looks at what the first
            one does, and compiles for it in the second.
        steady_ms: median of its later calls, without the profiler.
        profiled_ms: mean time of a frame while the profiler looks on, which takes time for every operator; the
            operators' own times sum up to about this.
        operators: the costliest first.
        convolution: their share of the time of all operators, 0..1.
        trace: Chrome trace file, for ``chrome://tracing`` or ui.perfetto.dev.
    """

    device: str
    precision: str
    adapter: str
    frames: int
    first_ms: float
    second_ms: float
    steady_ms: float
    profiled_ms: float
    operators: tuple[Operator, ...]
    convolution: float
    trace: Path

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        data = asdict(self)
        data["trace"] = str(self.trace)
        data["operators"] = [_rounded(asdict(operator)) for operator in self.operators]
        return _rounded(data)


def profile_detector(
    detector: TorchScriptDetector, captures: Sequence[Capture], trace: Path, *, rounds: int = 1
) -> Profile:
    """Run every frame alone, one intra-op thread on a CPU, and write the trace.

    Args:
        detector: it need not be warm.
        captures: frames to show it; of very many fewer are taken, so that their inputs need at most 256 MB.
        trace: where the Chrome trace goes, a ``.json`` file.
        rounds: how often the frames are shown while the profiler looks on.

    Raises:
        InferenceError, StageError: a frame failed.
        SinkError: the trace cannot be written.
    """
    info = detector.model_info()
    path, device = str(info["path"]), torch.device(info["device"])
    most = max(1, MAX_BYTES // math.prod(detector.spec.shape))  # all are in memory, so that only the network is seen
    inputs = items(captures[:: math.ceil(len(captures) / most)], detector.spec)
    load = load_builtin if path.startswith(PREFIX) else load_model

    def show(number: int) -> None:
        item = inputs[number % len(inputs)]
        detector.submit(Batch((item,), 1, number)).result()

    # A program of its own, not the one that was tried with all kinds of inputs: what is timed first is its first call.
    with intra_op_threads(1), running(detector, load(path, info["sha256"], device).module):
        first_ms, second_ms = (_timed_ms(show, number) for number in range(2))
        for number in range(_WARM):
            show(number)
        steady_ms = statistics.median(_timed_ms(show, number) for number in range(max(5, len(inputs))))
        kinds = [ProfilerActivity.CPU]
        if device.type == "cuda":
            kinds.append(ProfilerActivity.CUDA)
        with silent(), profile(activities=kinds, profile_memory=True, acc_events=True) as profiler:
            begun_ns = now_ns()
            for number in range(len(inputs) * rounds):
                show(number)
            profiled_ms = (now_ns() - begun_ns) / 1e6 / (len(inputs) * rounds)
    try:
        os.makedirs(trace.parent, exist_ok=True)
        profiler.export_chrome_trace(str(trace))
    except (OSError, RuntimeError) as error:
        raise SinkError(f"{trace} cannot be written: {error}") from error
    frames = len(inputs) * rounds
    operators = _operators(profiler.key_averages(), frames, device.type == "cuda")
    return Profile(
        str(device),
        info["precision"],
        info["adapter"],
        frames,
        first_ms,
        second_ms,
        steady_ms,
        profiled_ms,
        operators,
        sum(operator.share for operator in operators if _CONVOLUTION in operator.name.lower()),
        trace,
    )


def _operators(rows: Any, frames: int, on_device: bool) -> tuple[Operator, ...]:
    found = [row for row in rows if not row.is_user_annotation and row.key != "[memory]"]

    def cost(row: Any) -> float:
        return float(row.self_device_time_total if on_device else row.self_cpu_time_total)

    total = sum(map(cost, found)) or 1.0
    return tuple(
        Operator(
            row.key,
            row.count / frames,
            row.self_cpu_time_total / 1e3 / frames,
            row.self_device_time_total / 1e3 / frames,
            row.self_cpu_memory_usage / (1 << 20) / frames,
            row.self_device_memory_usage / (1 << 20) / frames,
            cost(row) / total,
        )
        for row in sorted(found, key=lambda row: (-cost(row), row.key))
    )


def _timed_ms(show: Any, number: int) -> float:
    begun_ns = now_ns()
    show(number)
    return (now_ns() - begun_ns) / 1e6


def _rounded(data: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in data.items()}
