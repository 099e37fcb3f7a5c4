# SPDX-License-Identifier: Apache-2.0
"""The detector that the flow talks to: batches of items in, detections in network pixels out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pipeline.detectors.adapter import Adapter, Limits, describe
from pipeline.detectors.network import Network
from pipeline.detectors.preprocessing import describe_input
from pipeline.detectors.suppress import suppressed
from pipeline.detectors.wording import one_line
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

    Attributes:
        spec: what it wants to be given.
        labels: class names by class id.
        max_batch: largest batch.
        depth: batches that one thread may have under way: 1 on a CPU, 2 on CUDA.
        fixed_batch: the only batch size that the network takes, or None: every batch is padded to it.
        nonfinite_rows: rows removed from outputs so far because of NaN or infinite values.
        nonfinite_frames: pictures that had such rows.
        startup_s: seconds spent on ``load`` and ``probe``.
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
        max_batch: int = 8,
        fixed_batch: int | None = None,
        threads: int = 1,
        notes: Sequence[str] = (),
        startup_s: dict[str, float] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.spec: InputSpec = network.spec
        self.labels = labels
        self.max_batch = max_batch
        self.depth = 2 if network.device.type == "cuda" else 1
        self.fixed_batch = fixed_batch
        self.nonfinite_rows = 0
        self.nonfinite_frames = 0
        self.startup_s = startup_s or {}
        self.notes = list(notes)
        self._network = network
        self._adapter = adapter
        self._limits = limits
        self._path = path
        self._digest = digest
        self._intra_op_threads = threads
        self._clock = clock
        self._lock = threading.Lock()

    def model_info(self) -> dict[str, Any]:
        """The model as ``report.json`` shows it."""
        return {
            "path": self._path,
            "sha256": self._digest or None,
            "adapter": self._adapter.name,
            "input": [self.spec.height, self.spec.width],
            "input_spec": describe_input(self.spec, self._network.encoding),
            "trim": self.spec.trim,
            "device": str(self._network.device),
            "precision": self._network.precision,
            "max_batch": self.max_batch,
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
            self._start([np.full(spec.shape, spec.pad_value, np.uint8)], size, spec).result()

    def submit(self, batch: Batch) -> Submitted:
        """Run (CPU) or queue (CUDA) a batch.

        Raises:
            InferenceError: the batch does not fit, the network raised, or its outputs do not fit the batch.
        """
        size = self._size(max(batch.size, len(batch.items)))
        return self._start([item.input for item in batch.items], size, batch.spec)

    def close(self) -> None:
        """Let go of the module and of all threads' buffers."""
        self._network.release()

    def _size(self, size: int) -> int:
        return size if self.fixed_batch is None else max(size, self.fixed_batch)

    def _start(self, pictures: Sequence[Uint8Array], size: int, spec: InputSpec) -> Submitted:
        outputs, ready = self._network.run(pictures, size)
        self._adapter.check(outputs, size)
        return Submitted(lambda: self._parse(outputs, len(pictures), spec), ready)

    def _parse(self, outputs: Any, count: int, spec: InputSpec) -> list[Detections]:
        try:
            with self._network.scope():
                parsed = self._adapter.parse(outputs, count, self._limits, spec)
        except (RuntimeError, ValueError, IndexError, KeyError, TypeError) as exc:
            raise InferenceError(f"the model's outputs ({describe(outputs)}) cannot be read: {one_line(exc)}") from exc
        rows = sum(parsed.nonfinite)
        if rows:
            with self._lock:
                self.nonfinite_rows += rows
                self.nonfinite_frames += sum(1 for lost in parsed.nonfinite if lost)
        return parsed.detections


class Submitted:
    """A batch under way; implements :class:`pipeline.protocols.Pending`. Belongs to the thread that submitted it."""

    __slots__ = ("_detections", "_parse", "_ready")

    def __init__(self, parse: Callable[[], list[Detections]], ready: torch.cuda.Event | None) -> None:
        self._parse = parse
        self._ready = ready
        self._detections: list[Detections] | None = None

    def wait(self) -> None:
        """Return when the network's outputs exist; raises InferenceError when the device failed meanwhile."""
        if self._ready is None:
            return
        try:
            self._ready.synchronize()
        except RuntimeError as exc:
            raise InferenceError(f"the device failed under a batch: {one_line(exc)}") from exc

    def result(self) -> list[Detections]:
        """Detections in network pixels, one per picture; the same list at every call."""
        if self._detections is None:
            self.wait()
            self._detections = self._parse()
        return self._detections
