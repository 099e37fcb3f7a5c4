# SPDX-License-Identifier: Apache-2.0
"""No table of a container and no picture may take more memory at once than honest ones need."""

from __future__ import annotations

import ctypes
import threading
from typing import Final

import av._core

LEAST: Final = 256 << 20
"""Bytes that one allocation of libav's may always have: an index of eleven million frames, two days at 60 fps."""
_BYTES_A_PIXEL: Final = 8


class Allocations:
    """The bound of this process on one allocation of libav's; it only grows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.bound = 0

    def allow(self, max_pixels: int) -> None:
        """Have libav refuse what is larger than :data:`LEAST`, or than pictures of ``max_pixels`` may need.

        A damaged count makes libav reserve a table for as many frames as a file of some kB claims, up to 4 GB; none of
        its options bounds that. ``av_max_alloc`` (libavutil, mem.h) does, for the whole process, and is not in PyAV's
        own interface; where its library does not hand it out, nothing is bound.
        """
        wanted = max(LEAST, _BYTES_A_PIXEL * max_pixels)
        with self._lock:
            if wanted <= self.bound:
                return
            self.bound = wanted
            limit = getattr(ctypes.CDLL(av._core.__file__), "av_max_alloc", None)
            if limit is not None:
                limit.argtypes, limit.restype = [ctypes.c_size_t], None
                limit(wanted)


ALLOCATIONS: Final = Allocations()
