# SPDX-License-Identifier: Apache-2.0
"""Reused buffers: the pool that frames and batches take memory from, so that a run lives on a bounded handful."""

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
        allocated: arrays allocated since the pool was made.
        in_use, in_use_bytes: arrays that were acquired and not released.
        idle, idle_bytes: arrays that wait to be acquired.
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

    The pool does not limit how many arrays are in use: those who acquire bound their own number (lanes, batches under
    way). It limits what lies idle, and gives up the shape that was released longest ago first, such as the input size
    of a model that was swapped out.

    Args:
        max_idle: idle arrays kept, all shapes together; at least 0.
        allocate: makes a new array of a shape, C-contiguous uint8. Injected where memory is special, such as
            page-locked memory for a device.
    """

    def __init__(self, max_idle: int = 64, allocate: Allocate = aligned) -> None:
        if max_idle < 0:
            raise ValueError(f"a pool keeps at least 0 idle buffers, not {max_idle}")
        self._max_idle = max_idle
        self._allocate = allocate
        self._lock = threading.Lock()
        self._idle: dict[Shape, list[Uint8Array]] = {}  # the shape released last is last
        self._idle_ids: set[int] = set()
        self._in_use: dict[int, Uint8Array] = {}
        self._idle_bytes = self._in_use_bytes = self._allocated = self._peak = self._peak_bytes = 0

    def acquire(self, shape: Shape) -> Uint8Array:
        """An array of ``shape``, uint8, C-contiguous, contents undefined: the one released last, or a new one."""
        with self._lock:
            array = self._take(shape)
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
            self._in_use_bytes -= array.nbytes
            shelf = self._idle.pop(array.shape, [])
            shelf.append(array)
            self._idle[array.shape] = shelf
            self._idle_ids.add(id(array))
            self._idle_bytes += array.nbytes
            if len(self._idle_ids) > self._max_idle:
                self._take_from(next(iter(self._idle)), 0)

    def trim(self) -> None:
        """Let go of everything idle."""
        with self._lock:
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

    def _take(self, shape: Shape) -> Uint8Array | None:
        if shape not in self._idle:
            return None
        array = self._take_from(shape, -1)
        self._lend(array)
        return array

    def _take_from(self, shape: Shape, position: int) -> Uint8Array:
        shelf = self._idle[shape]
        array = shelf.pop(position)
        if not shelf:
            del self._idle[shape]
        self._idle_ids.remove(id(array))
        self._idle_bytes -= array.nbytes
        return array

    def _lend(self, array: Uint8Array) -> None:
        self._in_use[id(array)] = array
        self._in_use_bytes += array.nbytes
        self._peak = max(self._peak, len(self._in_use))
        self._peak_bytes = max(self._peak_bytes, self._in_use_bytes)
