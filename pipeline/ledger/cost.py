# SPDX-License-Identifier: Apache-2.0
"""What it costs a frame, on its way, to be measured: found out on this machine, with made-up frames."""

from __future__ import annotations

from functools import cache
from typing import Final

from pipeline.ledger.streams import StreamLedger
from pipeline.timing import Mark, new_trace, now_ns, thread_cpu_ns

_FRAMES: Final = 63
"""Too few to be taken apart: that is not done on the way, and counted where it is done."""
_ROUNDS: Final = 5


@cache
def marking_ns() -> int:
    """CPU nanoseconds per frame for all that the loops do to have it measured.

    That is a trace, the clock read for each mark, and the frame counted where it arrives, is published and leaves the
    last sink. The least of some rounds, 2 ms in all, once a process.
    """
    return min(_round() for _ in range(_ROUNDS)) // _FRAMES


def _round() -> int:
    account = StreamLedger("", live=True)
    began_ns = thread_cpu_ns()
    for number in range(_FRAMES):
        trace = new_trace()
        for mark in Mark:
            trace[mark] = now_ns()
        account.arrived(trace[Mark.READ], number / 30, 0, False, (640, 360))
        account.published(trace)
        account.finished(trace)
    return thread_cpu_ns() - began_ns
