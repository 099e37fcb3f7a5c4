# SPDX-License-Identifier: Apache-2.0
"""Reused buffers: the pool that network inputs take memory from, so that a run lives on a bounded handful.

Memory has three tiers: blocks of the shapes that recur; a bounded pool from which every other shape is carved; and
buffers that live as long as their thread (:mod:`pipeline.detectors.feeding`, the scratch buffers of the stages).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipeline.frame import Uint8Array

Shape = tuple[int, ...]
Allocate = Callable[[Shape], Uint8Array]

ALIGNMENT: Final = 64
"""Bytes: a cache line, and the widest vector register of today's CPUs."""

WASTE: Final = 2
"""A block serves a shape of another size if it is at most this many times as large."""


def aligned(shape: Shape) -> Uint8Array:
    """An uninitialised C-contiguous uint8 array of ``shape`` whose first byte lies at a multiple of 64."""
    size = math.prod(shape)
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].reshape(shape)


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What a pool holds, at one moment.

    Attributes:
        allocated: blocks of memory allocated since the pool was made.
        in_use, in_use_bytes: arrays that were acquired and not released, and the memory that they lie in.
        idle, idle_bytes: arrays that wait to be acquired, and their memory.
        peak, peak_bytes: the most that ever were in use at a time.
    """

    allocated: int
    in_use: int
    in_use_bytes: int
    idle: int
    idle_bytes: int
    peak: int
    peak_bytes: int


class BufferPool:
    """Free lists of uint8 arrays, one per shape. Threads share it; no call blocks beyond a short lock.

    A shape that has none idle takes over the memory of an idle array of another shape, if that is large enough and not
    more than :data:`WASTE` times too large; so many shapes, such as those of streams that come and go, need no more
    memory than the most that were ever in use together.

    The pool does not limit how many arrays are in use: those who acquire bound their own number (lanes, batches under
    way). It limits what lies idle, and gives up the shape that was released longest ago first, such as the input size
    of a model that was swapped out.

    Args:
        max_idle: idle arrays kept, all shapes together; at least 0.
        max_idle_bytes: their bytes, at least 0.
        allocate: makes a new array of a shape, C-contiguous uint8. Injected where memory is special, such as
            page-locked memory for a device.
    """

    def __init__(self, max_idle: int = 64, allocate: Allocate = aligned, max_idle_bytes: int = 256 << 20) -> None:
        if max_idle < 0 or max_idle_bytes < 0:
            raise ValueError(f"a pool keeps at least 0 idle buffers and bytes, not {max_idle} and {max_idle_bytes}")
        self._max_idle = max_idle
        self._max_idle_bytes = max_idle_bytes
        self._allocate = allocate
        self._lock = threading.Lock()
        self._idle: dict[Shape, list[Uint8Array]] = {}  # the shape released last is last
        self._idle_ids: set[int] = set()
        self._in_use: dict[int, Uint8Array] = {}
        self._blocks: dict[int, Uint8Array] = {}  # by array: the memory that it lies in, where that is larger
        self._idle_bytes = self._in_use_bytes = self._allocated = self._peak = self._peak_bytes = 0

    def acquire(self, shape: Shape) -> Uint8Array:
        """An array of ``shape``, uint8, C-contiguous, contents undefined: the one released last, or a new one."""
        with self._lock:
            array = self._take(shape) if shape in self._idle else self._carve(shape)
        if array is None:
            array = self._allocate(shape)
            with self._lock:
                self._allocated += 1
                self._lend(array)
        return array

    def release(self, array: Uint8Array) -> None:
        """Give back an array that :meth:`acquire` returned; nobody may look at it afterwards.

        Raises:
            ValueError: it was released already, or is not from this pool (a view of a pooled array is not, either).
        """
        with self._lock:
            if self._in_use.pop(id(array), None) is None:
                if id(array) in self._idle_ids:
                    raise ValueError(f"a buffer of shape {array.shape} was released twice")
                raise ValueError(f"a buffer of shape {array.shape} is not on loan from this pool")
            self._in_use_bytes -= self._block(array).nbytes
            shelf = self._idle.pop(array.shape, [])
            shelf.append(array)
            self._idle[array.shape] = shelf
            self._idle_ids.add(id(array))
            self._idle_bytes += self._block(array).nbytes
            while len(self._idle_ids) > self._max_idle or self._idle_bytes > self._max_idle_bytes:
                self._blocks.pop(id(self._take_from(next(iter(self._idle)), 0)), None)

    def trim(self) -> None:
        """Let go of everything idle."""
        with self._lock:
            for number in self._idle_ids:
                self._blocks.pop(number, None)
            self._idle.clear()
            self._idle_ids.clear()
            self._idle_bytes = 0

    @property
    def stats(self) -> PoolStats:
        """A consistent snapshot."""
        with self._lock:
            return PoolStats(
                allocated=self._allocated,
                in_use=len(self._in_use),
                in_use_bytes=self._in_use_bytes,
                idle=len(self._idle_ids),
                idle_bytes=self._idle_bytes,
                peak=self._peak,
                peak_bytes=self._peak_bytes,
            )

    def _take(self, shape: Shape) -> Uint8Array:
        array = self._take_from(shape, -1)
        self._lend(array)
        return array

    def _carve(self, shape: Shape) -> Uint8Array | None:
        """An array of ``shape`` in the memory of an idle one of another shape, the one released longest ago first."""
        needed = math.prod(shape)
        for other, shelf in self._idle.items():
            block = self._block(shelf[0])
            if needed <= block.nbytes <= WASTE * needed:
                self._blocks.pop(id(self._take_from(other, 0)), None)
                array: Uint8Array = block.reshape(-1)[:needed].reshape(shape)
                self._blocks[id(array)] = block
                self._lend(array)
                return array
        return None

    def _block(self, array: Uint8Array) -> Uint8Array:
        """The memory that an array lies in."""
        return self._blocks.get(id(array), array)

    def _take_from(self, shape: Shape, position: int) -> Uint8Array:
        shelf = self._idle[shape]
        array = shelf.pop(position)
        if not shelf:
            del self._idle[shape]
        self._idle_ids.remove(id(array))
        self._idle_bytes -= self._block(array).nbytes
        return array

    def _lend(self, array: Uint8Array) -> None:
        self._in_use[id(array)] = array
        self._in_use_bytes += self._block(array).nbytes
        self._peak = max(self._peak, len(self._in_use))
        self._peak_bytes = max(self._peak_bytes, self._in_use_bytes)
