# SPDX-License-Identifier: Apache-2.0
"""The memory in which pictures lie between a decoding process and its parent."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from typing import Final

import numpy as np

from pipeline.frame import Uint8Array
from pipeline.sources.isolation.nonsense import Nonsense

SLOTS: Final = 8
"""Pictures that fit between the two: one being written, one ready, and those that the parent looks at."""


class Segment:
    """Shared memory without a name: it is gone with the last process that has it open."""

    def __init__(self, number: int, fd: int, slot_bytes: int) -> None:
        """``fd`` is closed; the memory stays for as long as somebody looks at it."""
        self.number = number
        self.slot_bytes = slot_bytes
        try:
            self._memory = mmap.mmap(fd, SLOTS * slot_bytes)
        finally:
            os.close(fd)

    @classmethod
    def make(cls, number: int, slot_bytes: int) -> tuple[Segment, int]:
        """New memory for slots of so many bytes, and a descriptor to give away."""
        fd = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, SLOTS * slot_bytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return cls(number, os.dup(fd), slot_bytes), fd
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def taken(cls, number: int, fd: int, slot_bytes: int, largest: int) -> Segment:
        """Memory that somebody else made; ``fd`` is closed in any case. Raises Nonsense where it is none, or could be
        cut off under whoever reads it."""
        if not 0 < slot_bytes <= largest or not _is_whole(fd, SLOTS * slot_bytes):
            os.close(fd)
            raise Nonsense("memory that is not fit for pictures")
        try:
            return cls(number, fd, slot_bytes)
        except OSError as exc:
            raise Nonsense("memory that cannot be looked at") from exc

    def fill(self, slot: int, planes: Sequence[Uint8Array]) -> None:
        """Copy planes into a slot, one after the other, without their padding."""
        at = slot * self.slot_bytes
        for plane in planes:
            out = np.ndarray(plane.shape, np.uint8, self._memory, at)
            out[...] = plane
            at += plane.size

    def bytes_of(self, slot: int, length: int) -> Uint8Array:
        """The first bytes of a slot, (length,) uint8. Whoever looks at a part of them keeps this array alive."""
        return np.frombuffer(self._memory, np.uint8, length, slot * self.slot_bytes)


def _is_whole(fd: int, size: int) -> bool:
    """Whether it is memory of this size, and stays it."""
    try:
        sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    except OSError:  # a pipe, a file of a disk, ...
        return False
    return bool(sealed) and os.fstat(fd).st_size == size
