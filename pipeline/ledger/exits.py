# SPDX-License-Identifier: Apache-2.0
"""Who made it unsteady: jitter at the exit of every part of the way, and what each part adds to that of its entry.

Three things are called jitter, and each has its name here:

- **transit**: RFC 3550's interarrival jitter (section 6.4.1), of an exit against the time of capture (pts): how
  unsteady the delay is up to there.
- **interval**: the standard deviation of the intervals between two frames at an exit, the largest gap, and **freezes**:
  gaps above ``max(3 * nominal, nominal + 150 ms)`` (WebRTC's rule).
- **delay variation**: p99 - p50 of the time spent in a part (:mod:`pipeline.ledger.stats`).

What a part adds is its exit's jitter minus that of the exit before; a part that smooths has a negative one. The sum
over all parts is what the pipeline added to the jitter with which frames arrived.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pipeline.ledger.arrivals import Intervals, by_epoch
from pipeline.ledger.blocks import Block
from pipeline.ledger.stats import milliseconds
from pipeline.measures import IntervalJitter, SmoothedChange
from pipeline.timing import PARTS, STAGES, WAITS, Mark

EXITS: Final[dict[str, int]] = {"arrival": int(Mark.READ)} | {part: mark for mark, part in enumerate(PARTS) if part}
"""Parts in the order of the route, and the mark at which each is left. Frames arrive with the jitter of the first."""
_MARKS: Final = list(EXITS.values())


class Exits:
    """Jitter of the frames of one stream at every exit, in the order in which they were published. Not locked."""

    def __init__(self) -> None:
        self._transit = SmoothedChange(len(EXITS))
        self._interval = IntervalJitter(len(EXITS))
        self._arrivals = Intervals()
        self._epoch: int | None = None

    @property
    def nominal_ns(self) -> int | None:
        """The median interval between the arrivals of two frames that were published; None before the second."""
        return self._arrivals.histogram.percentile(50)

    def add(self, block: Block) -> None:
        """Add frames that were finished after those before."""
        order = np.argsort(block.marks[:, Mark.FOLLOWED], kind="stable")
        times_ns, pts_ns = block.marks[order][:, _MARKS], block.pts_ns[order, None]
        for epoch, rows in by_epoch(block.epochs[order]):
            if epoch != self._epoch:  # what lies between two epochs is the camera's affair: neither delay nor interval
                self._transit.reset()
                self._interval.reset()
                self._arrivals.reset()
                self._epoch = epoch
            passed = times_ns[rows] > 0
            self._transit.add(times_ns[rows] - pts_ns[rows], passed)
            self._interval.add(times_ns[rows], passed, self.nominal_ns)
            self._arrivals.add(times_ns[rows, 0])

    def as_dict(self) -> dict[str, Any]:
        """``{part: {"transit_ms", "transit_added_ms", "interval_ms", "interval_added_ms", "largest_gap_ms",
        "freezes"}}``, from ``arrival``, which adds nothing, to ``sink``; parts that no two frames passed are left out.
        """
        found: dict[str, Any] = {}
        before: tuple[float, float] | None = None
        intervals_ns = self._interval.value_ns
        known = self._transit.known & ~np.isnan(intervals_ns)
        for number, part in enumerate(EXITS):
            if not known[number]:
                continue
            transit_ns, interval_ns = float(self._transit.value_ns[number]), float(intervals_ns[number])
            found[part] = {
                "transit_ms": milliseconds(transit_ns),
                "transit_added_ms": None if before is None else milliseconds(transit_ns - before[0]),
                "interval_ms": milliseconds(interval_ns),
                "interval_added_ms": None if before is None else milliseconds(interval_ns - before[1]),
                "largest_gap_ms": milliseconds(int(self._interval.largest_ns[number])),
                "freezes": int(self._interval.freezes[number]),
            }
            before = transit_ns, interval_ns
        return found


def added_by_stage(exits: dict[str, Any]) -> dict[str, dict[str, float]]:
    """``{STAGE: {"transit_added_ms", "interval_added_ms"}}`` of :meth:`Exits.as_dict`; ``queue``: all waits."""
    added: dict[str, dict[str, float]] = {}
    for stage in STAGES:
        parts = [exits[part] for part in (WAITS if stage == "queue" else (stage,)) if part in exits]
        if parts:
            added[stage] = {
                key: round(sum(part[key] or 0.0 for part in parts), 9)
                for key in ("transit_added_ms", "interval_added_ms")
            }
    return added
