# SPDX-License-Identifier: Apache-2.0
"""Input buffers of one thread: from uint8 HWC pictures to the network's batch tensor without allocating."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.detectors.adapter import Encoding
from pipeline.frame import InputSpec, Uint8Array

_DTYPES = {"float32": torch.float32, "uint8": torch.uint8}


class CpuFeed:
    """One batch tensor for all sizes. (B, H, W, 3) in memory, so the (B, 3, H, W) view is channels_last."""

    def __init__(self, encoding: Encoding, spec: InputSpec, capacity: int) -> None:
        self._scale = encoding.scale
        self._pad = spec.pad_value
        base = torch.empty((capacity, *spec.shape), dtype=_DTYPES[encoding.dtype])
        self._slots = list(base.unbind())
        self._batches = [base[: size + 1].permute(0, 3, 1, 2) for size in range(capacity)]

    def fill(self, pictures: Sequence[Uint8Array], size: int) -> torch.Tensor:
        """The pictures, then grey ones up to ``size``, as (size, 3, H, W). Valid until the next call.

        Widening copy, then scaling in place while the picture is in the cache: at 352 x 352 this takes 55 us a
        picture, against 75 us for a multiplication that converts, 90 us for NumPy, and 2.8 ms for stack, to and
        divide; at 640 x 640 a third less than scaling the whole batch at the end.
        """
        for slot, picture in zip(self._slots, pictures, strict=False):
            slot.copy_(_tensor(picture))
            if self._scale != 1.0:
                slot.mul_(self._scale)
        for slot in self._slots[len(pictures) : size]:
            slot.fill_(self._pad * self._scale)
        return self._batches[size - 1]


class CudaFeed:
    """Pinned staging buffers, used in turn, and one batch tensor on the device; everything in this thread's stream.

    Bytes cross to the device and are widened and scaled there. A staging buffer is written again only after the copy
    out of it has finished; with a depth of two batches that has long happened.
    """

    _STAGES = 3

    def __init__(self, encoding: Encoding, spec: InputSpec, capacity: int, device: torch.device) -> None:
        self._scale = encoding.scale
        self._pad = spec.pad_value
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        shape = (capacity, *spec.shape)
        self._staged = [torch.empty(shape, dtype=torch.uint8, pin_memory=True) for _ in range(self._STAGES)]
        self._copied: list[torch.cuda.Event | None] = [None] * self._STAGES
        self._turn = 0
        with torch.cuda.stream(self.stream):
            self._bytes = torch.empty(shape, dtype=torch.uint8, device=device)
            same = encoding.dtype == "uint8"
            self._base = self._bytes if same else torch.empty(shape, dtype=_DTYPES[encoding.dtype], device=device)

    def fill(self, pictures: Sequence[Uint8Array], size: int) -> torch.Tensor:
        """As :meth:`CpuFeed.fill`; the tensor is on the device and valid in :attr:`stream` until the next call."""
        turn = self._turn
        self._turn = (turn + 1) % self._STAGES
        copied = self._copied[turn]
        if copied is None:
            copied = self._copied[turn] = torch.cuda.Event()  # type: ignore[no-untyped-call]
        else:
            copied.synchronize()
        staged = self._staged[turn][:size]
        for slot, picture in zip(staged, pictures, strict=False):
            slot.copy_(_tensor(picture))
        staged[len(pictures) :].fill_(self._pad)
        received = self._bytes[:size]
        received.copy_(staged, non_blocking=True)
        copied.record(self.stream)
        batch = self._base[:size]
        if batch.dtype != torch.uint8:
            batch.copy_(received)
            if self._scale != 1.0:
                batch.mul_(self._scale)
        return batch.permute(0, 3, 1, 2)


def _tensor(picture: Uint8Array) -> torch.Tensor:
    """The picture's memory as a tensor; a copy only where torch cannot share it (read-only or negative strides)."""
    if not picture.flags.writeable or min(picture.strides) < 0:
        picture = picture.copy()
    return torch.from_numpy(picture)
