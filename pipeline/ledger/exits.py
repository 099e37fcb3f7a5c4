# SPDX-License-Identifier: Apache-2.0
"""Who made it unsteady: jitter at the exit of every part of the way, and what each part adds to that of its entry.

Three things are called jitter, and each has its name here:

- **transit**: RFC 3550's interarrival jitter (section 6.4.1), of an exit against the time of capture (pts): how
  unsteady the delay is up to there.
- **interval**: the standard deviation of the intervals between two frames at an exit, in the order in which they left
  it (B-frames come in another order than they are shown in), the largest gap, and **freezes**: gaps above
  ``max(3 * nominal, nominal + 150 ms)`` (WebRTC's rule); nominal is the median interval between arrivals so far, looked
  at anew with every sixteenth more.
- **delay variation**: p99 - p50 of the time spent in a part (:mod:`pipeline.ledger.stats`).

What a part adds is its exit's jitter minus that of the exit before; a part that smooths has a negative one. The sum
over all parts is what the pipeline added to the jitter with which frames arrived.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from pipeline.ledger.blocks import Block, BoolArray, Int64Array
from pipeline.measures import ONE, IntervalJitter, Intervals, SmoothedChange, in_order
from pipeline.timing import PARTS, STAGES, WAITS, Mark

EXITS: Final[dict[str, int]] = {"arrival": int(Mark.READ)} | {
    part: mark for mark, part in enumerate(PARTS) if part and mark != Mark.MADE
}
"""Parts in the order of the route, and the mark at which each is left. Frames arrive with the jitter of the first. A
frame that did not pass a part left it when it left the one before: one that its worker prepared has left ``preprocess``
when it left the decoder, and its preparation lies in ``batch``. So all exits see the same frames, and compare."""
_MARKS: Final = list(EXITS.values())
_PARTS: Final = list(EXITS)
_ADDED: Final = ("transit_added_ms", "interval_added_ms")
_ZERO: Final = np.zeros(1, np.int64)


class Exits:
    """Jitter of the frames of one stream at every exit, in the order in which they were published. Not locked."""

    def __init__(self) -> None:
        self._transit = SmoothedChange(len(EXITS))
        self._interval = IntervalJitter(len(EXITS))
        self._arrivals = Intervals()
        self._newest_ns = np.zeros(len(EXITS), np.int64)
        self._passed: BoolArray = np.zeros(len(EXITS), np.bool_)  # by any frame
        self._epoch: int | None = None
        self._expected_ns: int | None = None
        self._look_at = 1  # as soon as there are so many intervals

    @property
    def nominal_ns(self) -> int | None:
        """The median interval between the arrivals of two frames that were published; None before the second."""
        return self._arrivals.histogram.percentile(50)

    @staticmethod
    def add_each(many: Sequence[Exits], block: Block) -> None:
        """Add frames of each of ``many``, the block's streams, that were finished after those before."""
        order = block.published
        times_ns, owners, epochs = block.marks[order][:, _MARKS], block.owners, block.epochs[order]
        passed = np.logical_or.reduceat(times_ns > 0, block.firsts, axis=0)
        for each, own in zip(many, passed, strict=True):
            each._passed = each._passed | own
        times_ns = np.maximum.accumulate(times_ns, axis=1)
        transits_ns = times_ns - block.pts_ns[order, None]
        new = (owners[1:] != owners[:-1]) | (epochs[1:] != epochs[:-1])
        firsts = np.concatenate([_ZERO, new.nonzero()[0] + 1])
        if firsts.size == len(many):  # one epoch each
            _add_each(many, epochs[firsts], transits_ns, times_ns, firsts)
            return
        for first, end in pairwise([*firsts.tolist(), len(owners)]):
            some = slice(first, end)
            _add_each([many[owners[first]]], epochs[[first]], transits_ns[some], times_ns[some], ONE)

    def _begin(self, epoch: int) -> None:
        """What comes now is of that epoch. What lies between two is the camera's affair: neither delay nor interval."""
        if epoch != self._epoch:
            self._transit.reset()
            self._interval.reset()
            self._arrivals.reset()
            self._epoch = epoch

    def _expect(self) -> int | None:
        """The interval that is expected, of all arrivals up to the newest."""
        intervals = self._arrivals.histogram.count
        if intervals >= self._look_at:
            self._expected_ns, self._look_at = self.nominal_ns, intervals + intervals // 16 + 1
        return self._expected_ns

    @staticmethod
    def as_dicts(many: Sequence[Exits]) -> list[dict[str, Any]]:
        """``{part: {"transit_ms", "transit_added_ms", "interval_ms", "interval_added_ms", "largest_gap_ms",
        "freezes"}}`` of each, from ``arrival``, which adds nothing, to ``sink``; parts that no frame passed are
        left out.
        """
        if not many:
            return []
        values_ns = np.array([(each._transit.value_ns, each._interval.value_ns) for each in many])
        known = np.array([each._transit.known & each._passed for each in many]) & ~np.isnan(values_ns[:, 1])
        # What a part adds is the difference from the last exit before that is known.
        last = np.maximum.accumulate(np.where(known, np.arange(len(EXITS)), -1), axis=1)
        before = np.hstack([np.full((len(many), 1), -1), last[:, :-1]])
        added_ns = values_ns - np.take_along_axis(values_ns, before[:, None], axis=2)
        gaps_ms = np.round(np.array([each._interval.largest_ns for each in many]) / 1e6, 9)
        each_of_many = zip(
            known.tolist(),
            (before >= 0).tolist(),
            np.round(values_ns / 1e6, 9).tolist(),
            np.round(added_ns / 1e6, 9).tolist(),
            gaps_ms.tolist(),
            [each._interval.freezes.tolist() for each in many],
            strict=True,
        )
        return [
            {
                part: {
                    "transit_ms": transit,
                    "transit_added_ms": transit_added if adds else None,
                    "interval_ms": interval,
                    "interval_added_ms": interval_added if adds else None,
                    "largest_gap_ms": gap,
                    "freezes": freezes,
                }
                for part, is_known, adds, transit, interval, transit_added, interval_added, gap, freezes in zip(
                    _PARTS, parts, adding, *values, *added, gaps, counts, strict=True
                )
                if is_known
            }
            for parts, adding, values, added, gaps, counts in each_of_many
        ]


def _add_each(
    many: Sequence[Exits],
    epochs: Int64Array,
    transits_ns: Int64Array,
    times_ns: Int64Array,
    firsts: Int64Array,
) -> None:
    """Frames of each of ``many``, of one epoch each."""
    for each, epoch in zip(many, epochs.tolist(), strict=True):
        each._begin(epoch)
    left_ns = in_order(times_ns, firsts, [each._newest_ns for each in many])
    # First, so that also of the very first frames it is known what is a freeze.
    Intervals.add_each([each._arrivals for each in many], left_ns[:, 0], firsts)
    nominal_ns = [each._expect() for each in many]
    SmoothedChange.add_each([each._transit for each in many], transits_ns, None, firsts)
    IntervalJitter.add_each([each._interval for each in many], left_ns, None, firsts, nominal_ns)


def added_by_stage(exits: dict[str, Any]) -> dict[str, dict[str, float]]:
    """``{STAGE: {"transit_added_ms", "interval_added_ms"}}`` of :meth:`Exits.as_dicts`; ``queue``: all waits."""
    added: dict[str, dict[str, float]] = {}
    for stage in STAGES:
        parts = [exits[part] for part in (WAITS if stage == "queue" else (stage,)) if part in exits]
        if parts:
            added[stage] = {key: round(sum([part[key] or 0.0 for part in parts]), 9) for key in _ADDED}
    return added
