# SPDX-License-Identifier: Apache-2.0
"""The detector that the flow talks to: batches of items in, detections in network pixels out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pipeline.detectors.adapter import UNREADABLE, Adapter, Limits, describe
from pipeline.detectors.capacity import Capacity, parts, pictures_per_call
from pipeline.detectors.device_work import DeviceWork
from pipeline.detectors.network import Network, OutOfMemory
from pipeline.detectors.pinned import allocator
from pipeline.detectors.preprocessing import describe_input
from pipeline.detectors.suppress import suppressed
from pipeline.detectors.torch_messages import one_line
from pipeline.detectors.trial.verdict import Verdict, not_finite_because
from pipeline.errors import InferenceError
from pipeline.frame import Batch, Detections, InputSpec, Uint8Array
from pipeline.timing import SYSTEM, Clock

_log = logging.getLogger(__name__)

USUAL_SHAPES = ((16, 9), (4, 3))
"""Width and height of the pictures that most sources have: a detector that takes trimmed inputs is warmed for them."""

WARM_BUDGET_NS = 5_000_000_000
"""Warming a thread begins no further run after this long."""


class TorchScriptDetector:
    """Implements :class:`pipeline.protocols.Detector`. Called from several threads at once.

    On a CPU the network runs inside ``submit``, in the thread that calls it; ``wait`` has nothing left to do. On CUDA
    ``submit`` only queues the work, and up to two batches per thread may be under way.

    A batch is one call of the network, or several: where memory ran out, and on a CPU where a whole one would be slower
    per picture than parts of it. How a batch is divided depends on its size alone, so results do not depend on speed.

    Args:
        network: runs the program.
        adapter: knows what its outputs mean.
        limits: what counts as a detection.
        labels: class names by class id.
        path, digest, file_format: of the model's file, for reports.
        verdict: what trying it before the first frame showed.
        threads: intra-op threads that :meth:`warm` gives to each calling thread.
        whole: a batch is one call of the network, also on a CPU.
        notes: remarks for the user, one line each.
        startup_s: seconds spent so far, by what they were spent on.
        clock: where time comes from.

    Attributes:
        spec: what it wants to be given.
        labels: class names by class id.
        max_batch: largest batch.
        depth: batches that one thread may have under way: 1 on a CPU, 2 on CUDA.
        verdict: what trying it before the first frame showed.
        exclusive: one thread at a time is let in; the others wait for their turn in ``submit``.
        nonfinite_rows: rows removed from outputs so far because of NaN or infinite values.
        nonfinite_frames: pictures that had such rows.
        allocate: makes the memory of the pictures that it is given: page-locked where they cross to a GPU.
        startup_s: seconds spent on ``load`` and ``probe``.
        limits: what counts as a detection. Another object in its place applies from the next outputs that are read.
        notes: remarks for the user, one line each.
    """

    def __init__(
        self,
        network: Network,
        adapter: Adapter,
        limits: Limits,
        labels: dict[int, str],
        *,
        path: str,
        digest: str = "",
        file_format: str = "torchscript",
        verdict: Verdict,
        threads: int = 1,
        whole: bool = False,
        notes: Sequence[str] = (),
        startup_s: dict[str, float] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.spec: InputSpec = network.spec
        self.labels = labels
        self.max_batch = verdict.largest
        self.depth = 2 if network.device.type == "cuda" else 1
        self.verdict = verdict
        self.exclusive = verdict.exclusive
        self.nonfinite_rows = 0
        self.nonfinite_frames = 0
        self.startup_s = startup_s or {}
        self.allocate = allocator(network.device)
        self.limits = limits
        self.notes = list(notes)
        self._network = network
        self._adapter = adapter
        self._path = path
        self._digest = digest
        self._format = file_format
        self._intra_op_threads = threads
        self._whole = whole or network.device.type != "cpu"
        self._clock = clock
        self._capacity = Capacity(network.capacity)
        self._lock = threading.Lock()  # of the counters
        self._alone = threading.Lock()  # for a network that only one thread may run at a time

    @property
    def program(self) -> torch.nn.Module:
        """What every batch is shown to. Another module with the same inputs and outputs can take its place between two
        batches: it is then fed and read exactly as in a run. ValueError where the detector is closed."""
        module = self._network.module
        if module is None:
            raise ValueError("the detector is closed")
        return module

    @program.setter
    def program(self, module: torch.nn.Module) -> None:
        self._network.module = module

    def model_info(self) -> dict[str, Any]:
        """The model as ``report.json`` shows it."""
        return {
            "path": self._path,
            "sha256": self._digest or None,
            "format": self._format,
            "adapter": self._adapter.name,
            "input": [self.spec.height, self.spec.width],
            "input_spec": describe_input(self.spec, self._network.encoding),
            "trim": self.spec.trim,
            "device": str(self._network.device),
            "precision": self._network.precision,
            "max_batch": self.max_batch,
            "verdict": self.verdict.as_dict(),
        }

    def warm(self, sizes: Sequence[int]) -> None:
        """Set the calling thread's intra-op threads and run every size, post-processing included.

        Every size runs once, then once more (TorchScript optimises at the second call), as long as 5 s have not
        passed; the largest size comes first.
        """
        torch.set_num_threads(self._intra_op_threads)
        with self._network.scope():
            suppressed(np.eye(2, 4, 2, dtype=np.float32), np.ones(2, np.float32), np.zeros(2, np.int64), 0.5)
        begun = self._clock.now_ns()
        specs = dict.fromkeys(self.spec.trimmed(*shape) for shape in USUAL_SHAPES)
        order = [(size, spec) for size in sorted({self._size(size) for size in sizes}, reverse=True) for spec in specs]
        for size, spec in order * 2:
            if self._clock.now_ns() - begun > WARM_BUDGET_NS:
                _log.debug("warming ended early, before batch size %d", size)
                return
            self._start([np.full(spec.shape, spec.pad_value, np.uint8)] * size, size, spec).result()

    def submit(self, batch: Batch) -> Submitted:
        """Run (CPU) or queue (CUDA) a batch.

        Raises:
            InferenceError: the batch does not fit, the network raised, or its outputs do not fit the batch.
            DeviceLost: the GPU is gone for this process.
        """
        size = self._size(max(batch.size, len(batch.items)))
        return self._start([item.input for item in batch.items], size, batch.spec)

    def close(self) -> None:
        """Let go of the module and of all threads' buffers."""
        self._network.release()

    def _size(self, size: int) -> int:
        return max(size, self.verdict.fixed or 0)

    def _start(self, pictures: Sequence[Uint8Array], size: int, spec: InputSpec) -> Submitted:
        most = self._most(spec)
        if most < size <= self._network.capacity and self.verdict.fixed is None:
            return self._start_in_parts(pictures, size, most, spec)
        try:
            started = self._start_at_once(pictures, size, spec)
        except OutOfMemory as exc:
            smaller = 0 if self.verdict.fixed is not None else self._capacity.ran_out(size)
            if not smaller:
                self._network.spare()
                raise
            _log.warning("%s: %s; batches of %d for the time being", self._path, exc, smaller)
            started = None
        if started is None:  # only here are the error and the tensors gone that its traceback held
            self._network.spare()
            return self._start_in_parts(pictures, size, smaller, spec)
        if self._capacity.went_well():
            _log.info("%s: batches of %d are tried again", self._path, self._capacity.now)
        return started

    def _most(self, spec: InputSpec) -> int:
        """Pictures that one call holds at this moment."""
        if self._whole:
            return self._capacity.now
        halved = self._network.precision in ("bf16", "fp16")
        fits = pictures_per_call(spec.height, spec.width, self._intra_op_threads, halved=halved)
        return min(self._capacity.now, fits)

    def _start_in_parts(self, pictures: Sequence[Uint8Array], size: int, most: int, spec: InputSpec) -> Submitted:
        """Parts are as large as ``size`` makes them; those without a picture are left out."""
        started: list[Submitted] = []
        at = 0
        for part in parts(size, most):
            if at < len(pictures):
                started.append(self._start(pictures[at : at + part], part, spec))
            at += part
        took_ns = [one.device_ns for one in started if one.device_ns is not None]
        return Submitted(
            lambda: [found for one in started for found in one.result()],
            _whole(started),
            sum(took_ns) if took_ns else None,
        )

    def _start_at_once(self, pictures: Sequence[Uint8Array], size: int, spec: InputSpec) -> Submitted:
        if self.verdict.exclusive:
            with self._alone:  # until its outputs are read: they may be what it keeps between calls
                began_ns = self._clock.now_ns()
                found = self._started(pictures, size, spec).result()
                return Submitted(lambda: found, None, self._clock.now_ns() - began_ns)
        return self._started(pictures, size, spec)

    def _started(self, pictures: Sequence[Uint8Array], size: int, spec: InputSpec) -> Submitted:
        outputs, work = self._network.run(pictures, size)
        self._adapter.check(outputs, size)
        return Submitted(lambda: self._parse(outputs, len(pictures), spec, work), work)

    def _parse(self, outputs: Any, count: int, spec: InputSpec, work: DeviceWork | None) -> list[Detections]:
        try:
            with self._network.reading(work):
                parsed = self._adapter.parse(outputs, count, self.limits, spec)
        except UNREADABLE as exc:
            self._network.check_device(exc)
            raise InferenceError(f"the model's outputs ({describe(outputs)}) cannot be read: {one_line(exc)}") from exc
        rows = sum(parsed.nonfinite)
        if rows:
            self._count_not_finite(rows, sum(1 for lost in parsed.nonfinite if lost))
        return parsed.detections

    def _count_not_finite(self, rows: int, frames: int) -> None:
        """Said for the first picture, then whenever their number has doubled."""
        with self._lock:
            before = self.nonfinite_frames
            self.nonfinite_rows += rows
            self.nonfinite_frames += frames
            due = self.nonfinite_frames.bit_length() > before.bit_length()
        if due:
            text = "%s: NaN or infinite values removed from the outputs for %d pictures so far; %s"
            _log.warning(text, self._path, self.nonfinite_frames, not_finite_because(self._network.precision))


class Submitted:
    """A batch under way; implements :class:`pipeline.protocols.Pending`. Belongs to the thread that submitted it.

    Attributes:
        work: what a device does for it beside the worker; None where all is done, as on a CPU.
        device_ns: how long that took, once it was waited for. Where one thread at a time is let in, how long this one
            was in, without the wait for its turn; else None.
    """

    __slots__ = ("_detections", "_parse", "device_ns", "work")

    def __init__(
        self, parse: Callable[[], list[Detections]], work: DeviceWork | None, took_ns: int | None = None
    ) -> None:
        self._parse = parse
        self.work = work
        self.device_ns = took_ns
        self._detections: list[Detections] | None = None

    def wait(self) -> None:
        """Return when the network's outputs exist; raises InferenceError when the device failed meanwhile."""
        if self.work is None:
            return
        try:
            self.device_ns = self.work.wait()
        except RuntimeError as exc:
            raise InferenceError(f"the device failed under a batch: {one_line(exc)}") from exc

    def result(self) -> list[Detections]:
        """Detections in network pixels, one per picture; the same list at every call."""
        if self._detections is None:
            self.wait()
            self._detections = self._parse()
        return self._detections


def _whole(parts: Sequence[Submitted]) -> DeviceWork | None:
    """The work on all parts of a batch, which one stream does one after the other."""
    first, last = parts[0].work, parts[-1].work
    return None if first is None or last is None else first.until(last)
