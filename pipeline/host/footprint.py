# SPDX-License-Identifier: Apache-2.0
"""The memory of this process over hours: is it still growing long after it should have settled?"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
from pathlib import Path
from typing import Final

from pipeline.timing import SYSTEM, Clock

SETTLED_NS = 300_000_000_000
"""By then buffers, allocators and the files that are open have reached their size."""
LEAST_GROWTH = 200_000_000
"""Bytes above the settled size from which growth is worth a word; then whenever it has doubled."""

GIVE_BACK_NS: Final = 60_000_000_000
"""How often free memory goes back to the system."""

_PAGES = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Resident memory of this process; None where the system does not tell."""
    try:
        return int(_PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None


def own_bytes(pid: int) -> int:
    """Memory that a process has for itself, without what it shares with others, such as libraries; 0 where there is no
    such process, or the system does not tell (Linux does)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


def keep_for_good() -> None:
    """What is there now stays: the garbage collector need not look through it again.

    PyTorch, a model and what reads them are two hundred thousand objects; a collection that goes through all of them
    holds every thread up for 50 ms of CPU time, in which eight cameras at 30 frames a second send twelve.

    "For good" ends with the program: libraries that count what is left of them at its end (nanobind, in Triton, which
    torch's profiler and torch.export import) would call all of it leaked, in dozens of lines.
    """
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)
    gc.unfreeze()  # what was kept before and is needed no more, such as a model that was swapped out
    gc.collect()
    gc.freeze()


def give_back() -> bool:
    """Hand the pages that the C library's allocator keeps free back to the system; False where it cannot.

    Frames are taken by one thread and released by another, in whatever order the cameras send them: a heap keeps what
    its fullest moment needed, and a fuller one comes every now and then. glibc returns free memory of itself only from
    a heap's end; ``malloc_trim(3)`` returns every page that is free. It takes some milliseconds, without the GIL.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError, TypeError):  # not glibc: musl, macOS, Windows
        return False


class Footprint:
    """Keeps free memory small, and compares what is left with what was settled. Asked every now and then, by one
    thread."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._now_ns = clock.now_ns
        self._begun_ns = self._given_ns = clock.now_ns()
        self._settled: tuple[int, int] | None = None  # when, bytes
        self._next = LEAST_GROWTH

    def tidy(self) -> None:
        """Give free memory back, once every :data:`GIVE_BACK_NS` however often this is called."""
        now_ns = self._now_ns()
        if now_ns - self._given_ns >= GIVE_BACK_NS:
            self._given_ns = now_ns
            give_back()

    def look(self, resident: int | None = None) -> str | None:
        """What is to be said about memory now, or None. ``resident``: bytes, as :func:`resident_bytes` has them."""
        now_ns = self._now_ns()
        if resident is None or now_ns - self._begun_ns < SETTLED_NS:
            return None
        if self._settled is None:
            self._settled = now_ns, resident
        since_ns, before = self._settled
        growth = resident - before
        if growth < self._next:
            return None
        self._next = 2 * growth
        minutes = max(1.0, (now_ns - since_ns) / 60e9)
        return (
            f"memory grew from {before / 1e6:,.0f} MB to {resident / 1e6:,.0f} MB in {minutes:,.0f} min "
            f"({growth / 1e6 / minutes:,.1f} MB a minute); a model that keeps tensors between calls does that: "
            "`pipeline doctor MODEL` looks for it"
        )
