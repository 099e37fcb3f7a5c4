# SPDX-License-Identifier: Apache-2.0
"""The frames of a proof: how long each took, and how much of each copy was played."""

from __future__ import annotations

from array import array
from collections import defaultdict
from typing import Final

from pipeline.ledger import Ledger
from pipeline.timing import FRAME, PTS, Mark, elapsed, now_ns, part_times

OVERLAP_NS: Final = 2_000_000_000
"""Looks at the ledger overlap by so much: a frame is noted some time after it ended."""


class Journeys:
    """Frames that ended within a window, however long that is: what a ledger remembers of a run, for some seconds, is
    looked at as often.

    Args:
        began_ns: of the window (monotonic).
    """

    def __init__(self, began_ns: int) -> None:
        self._began_ns = self._looked_ns = began_ns
        self._latencies: dict[str, array[float]] = defaultdict(lambda: array("d"))
        self._played_ns: dict[str, tuple[int, int]] = {}  # time stamps of the first and the last frame that was read
        self._last: dict[str, int] = {}  # number of the newest frame of a stream that was taken

    def collect(self, ledger: Ledger, until_ns: int | None = None) -> None:
        """What has ended since it was called before; ``until_ns``: when the window ended, if it has."""
        looked_ns = now_ns()
        for name, traces in ledger.journal(max(self._began_ns, self._looked_ns - OVERLAP_NS)).journeys.items():
            for trace in traces:  # by their ends, and so by their numbers, but for those that were lost
                if self._began_ns <= trace[Mark.READ] and (until_ns is None or trace[Mark.READ] < until_ns):
                    first, last = self._played_ns.get(name, (trace[PTS], trace[PTS]))
                    self._played_ns[name] = min(first, trace[PTS]), max(last, trace[PTS])
                if not trace[Mark.FOLLOWED] or trace[FRAME] <= self._last.get(name, -1):
                    continue
                ended_ns = max(trace[: len(Mark)])
                if until_ns is None or ended_ns < until_ns:
                    # A plan is about what the machine takes, not about a wait that was asked for.
                    took_ns = elapsed(trace) - part_times(trace).get("playout", 0)
                    self._latencies[name].append(took_ns / 1e6)
                self._last[name] = trace[FRAME]
        self._looked_ns = looked_ns

    def latencies_ms(self, name: str) -> list[float]:
        """End to end, of the frames that were processed."""
        return list(self._latencies[name])

    def played_s(self, name: str) -> float:
        """Between the time stamps of the first and of the last frame that were read within the window."""
        first, last = self._played_ns.get(name, (0, 0))
        return (last - first) / 1e9
