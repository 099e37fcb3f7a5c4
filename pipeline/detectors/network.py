# SPDX-License-Identifier: Apache-2.0
"""A TorchScript module on a device: uint8 pictures in, raw outputs out, with buffers that each thread keeps."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch

from pipeline.detectors.device_work import DeviceWork, Event, timing_event
from pipeline.detectors.feeding import CpuFeed, CudaFeed, arguments
from pipeline.detectors.preprocessing import Encoding
from pipeline.detectors.torch_messages import one_line
from pipeline.errors import DeviceLost, InferenceError
from pipeline.frame import InputSpec, Uint8Array

Precision = Literal["fp32", "bf16", "fp16", "int8"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

_NO_MEMORY = (
    "DefaultCPUAllocator: ",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""How torch's allocators, CUDA itself and its libraries say it, where torch has no class for it."""


class OutOfMemory(InferenceError):
    """There was no memory for a batch; a smaller one may succeed."""


class Network:
    """Runs batches. Safe to call from several threads; each has its own input buffers, made at its first call.

    Attributes:
        module: takes (B, 3, H, W), or a list of B pictures, see ``encoding``.
        encoding: how pictures become its input.
        spec: size and padding of the pictures; with ``spec.trim`` also trimmed ones.
        device: where it runs.
        precision: of the arithmetic; ``bf16`` and ``fp16`` are torch.autocast: weights and sensitive layers stay
            float32. ``int8`` runs a quantised file as it is.
        capacity: largest batch; buffers are made for it.
        event: what times the device's work is made of; None, as on a CPU: nothing is timed.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        encoding: Encoding,
        spec: InputSpec,
        device: torch.device,
        precision: Precision,
        capacity: int,
        event: Callable[[], Event] | None = None,
    ) -> None:
        self.module: torch.nn.Module | None = module
        self.encoding = encoding
        self.spec = spec
        self.device = device
        self.precision: Precision = precision
        self.capacity = capacity
        self.event = timing_event if event is None and device.type == "cuda" else event
        self._threads = threading.local()

    def run(self, pictures: Sequence[Uint8Array], size: int) -> tuple[Any, DeviceWork | None]:
        """Show ``size`` pictures to the network: the given ones, then grey ones.

        Args:
            pictures: 1 to ``size`` arrays of one shape: ``spec.shape``, or less of it where ``spec.trim`` allows.
            size: at most ``capacity``.

        Returns:
            what the network returned, and on CUDA the work after which it is valid (then only within :meth:`scope`).

        Raises:
            OutOfMemory: there was no memory for so many pictures.
            DeviceLost: no further batch can succeed.
            InferenceError: pictures do not fit, or the module raised.
        """
        if not 1 <= len(pictures) <= size <= self.capacity:
            raise InferenceError(f"a batch of {len(pictures)} padded to {size}: 1 to {self.capacity} were expected")
        for picture in pictures:
            if picture.shape != pictures[0].shape or not self._fits(picture.shape):
                raise InferenceError(f"an input of shape {picture.shape}; the detector takes {self.spec.shape}")
        module = self.module
        if module is None:
            raise InferenceError("the detector is closed")
        try:
            with self.scope():
                feed = self._feed()
                work = DeviceWork.begin(self.event) if self.event is not None else None
                given = feed.fill(pictures, size)
                with self._arithmetic():
                    outputs = module(*arguments(self.encoding, given))
                if work is not None:
                    work.end()
                return outputs, work
        except Exception as exc:
            if _is_out_of_memory(exc):
                raise OutOfMemory(f"no memory for a batch of {size}: {one_line(exc)}") from exc
            self.check_device(exc)
            raise InferenceError(f"the model failed on a batch of {size}: {one_line(exc)}") from exc

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Within it tensors of this network may be used: no gradients, and on CUDA this thread's stream."""
        with torch.inference_mode():
            if self.device.type != "cuda":
                yield
                return
            with torch.cuda.device(self.device), torch.cuda.stream(self._cuda_feed().stream):
                yield

    @contextlib.contextmanager
    def reading(self, work: DeviceWork | None) -> Iterator[None]:
        """Within it outputs may be read that are valid after ``work``: not behind the next batch of this thread.

        Whoever reads must have copied everything to the CPU when it ends, as the outputs' memory may then be used anew.
        """
        with torch.inference_mode():
            if work is None or self.device.type != "cuda":
                yield
                return
            stream = self._cuda_feed().reading
            with torch.cuda.device(self.device), torch.cuda.stream(stream):
                work.ended.wait(stream)
                try:
                    yield
                finally:
                    stream.synchronize()

    def check_device(self, error: BaseException) -> None:
        """Raise DeviceLost where ``error`` was not of one batch: a GPU's faults outlast the batch that caused them."""
        if self.device.type != "cuda":
            return
        try:
            torch.cuda.synchronize(self.device)
        except RuntimeError as exc:
            raise DeviceLost(
                f"{self.device} takes no more work in this process: {one_line(exc)}; only a new process helps. "
                "CUDA_LAUNCH_BLOCKING=1 shows the operator, where it is the model's fault"
            ) from error

    def spare(self) -> None:
        """Give memory that torch keeps for later back to the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def release(self) -> None:
        """Let go of the module and of all threads' buffers; later runs raise InferenceError."""
        self.module = None
        self._threads = threading.local()

    def _fits(self, shape: tuple[int, ...]) -> bool:
        spec = self.spec
        if shape == spec.shape:
            return True
        if not spec.trim or len(shape) != 3 or shape[2] != 3:
            return False
        sides = zip(shape, spec.shape[:2], strict=False)
        return all(side == most or (0 < side < most and side % spec.trim == 0) for side, most in sides)

    def _arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision not in _AUTOCAST:
            return contextlib.nullcontext()
        # A CUDA graph that was recorded with a weight's cached cast would read it after autocast has let go of it.
        cached = self.device.type != "cuda"
        return torch.autocast(self.device.type, dtype=_AUTOCAST[self.precision], cache_enabled=cached)

    def _feed(self) -> CpuFeed | CudaFeed:
        feed: CpuFeed | CudaFeed | None = getattr(self._threads, "feed", None)
        if feed is None:
            if self.device.type == "cuda":
                feed = CudaFeed(self.encoding, self.spec, self.capacity, self.device)
            else:
                feed = CpuFeed(self.encoding, self.spec, self.capacity)
            self._threads.feed = feed
        return feed

    def _cuda_feed(self) -> CudaFeed:
        feed = self._feed()
        if not isinstance(feed, CudaFeed):
            raise TypeError("the network does not run on CUDA")
        return feed


def _is_out_of_memory(error: BaseException) -> bool:
    """On a CPU torch has no class for it; inside a TorchScript program no device has."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return any(words in text for words in _NO_MEMORY)
