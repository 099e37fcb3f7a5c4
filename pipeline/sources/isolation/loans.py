# SPDX-License-Identifier: Apache-2.0
"""Pictures that lie in memory shared with a decoding process, while the rest of the program looks at them."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Final

import numpy as np

from pipeline.frame import Uint8Array
from pipeline.sources.isolation.segment import SLOTS, Segment

LENT: Final = 4
"""Pictures of one segment that the rest of the program may look at where they lie; of others a copy is made."""


class Loans:
    """Who looks at which slot of a segment. A slot is given back when the last array of it is gone, which may happen in
    any thread."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._out: dict[int, weakref.ref[Uint8Array]] = {}
        self._back: deque[int] = deque()

    def has(self, number: int, slot: int, size: int) -> bool:
        """Whether there is such a place, and nobody looks at it still."""
        segment = self._segment
        return number == segment.number and slot < SLOTS and slot not in self._out and size <= segment.slot_bytes

    def lend(self, slot: int, size: int) -> Uint8Array:
        """Its first bytes, where they lie, or a copy of them where too many others are being looked at."""
        data = self._segment.bytes_of(slot, size)
        out, back = self._out, self._back
        if len(out) >= LENT:
            data = np.array(data)
            back.append(slot)
            return data

        def gone(_: weakref.ref[Uint8Array]) -> None:
            del out[slot]
            back.append(slot)

        out[slot] = weakref.ref(data, gone)
        return data

    def given_back(self) -> list[tuple[int, int]]:
        """(segment, slot) of those that nobody looks at now, each once."""
        return [(self._segment.number, self._back.popleft()) for _ in range(len(self._back))]
