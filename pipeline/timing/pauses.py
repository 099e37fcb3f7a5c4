# SPDX-License-Identifier: Apache-2.0
"""When Python's garbage collector held everything up."""

from __future__ import annotations

import gc
from collections import deque
from typing import Final, NamedTuple

from pipeline.timing.clock import now_ns

_KEPT: Final = 1024


class Pause(NamedTuple):
    """One collection: from when to when (monotonic nanoseconds), and of which generation, 0 to 2."""

    began_ns: int
    ended_ns: int
    generation: int


class Pauses:
    """The newest collections of this process. There is one collector, so there is one of these."""

    def __init__(self) -> None:
        self._kept: deque[Pause] = deque(maxlen=_KEPT)
        self._began_ns = 0

    def watch(self) -> None:
        """Take note of collections from now on; to say so again changes nothing."""
        if self._note not in gc.callbacks:
            gc.callbacks.append(self._note)

    def since(self, at_ns: int) -> list[Pause]:
        """Those that ended after ``at_ns``, oldest first."""
        return [pause for pause in self._kept.copy() if pause.ended_ns > at_ns]

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_ns = now_ns()
        elif self._began_ns:
            self._kept.append(Pause(self._began_ns, now_ns(), info["generation"]))


GC_PAUSES: Final = Pauses()
