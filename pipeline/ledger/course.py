# SPDX-License-Identifier: Apache-2.0
"""How one stream went over time: latency, losses and reconnects in slots whose width doubles whenever they are full."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.ledger.blocks import Block
from pipeline.measures import bucket_of, bucket_start

SLOTS: Final = 120
"""At most; between half of them and all are in use once they were full."""
FIRST_NS: Final = 100_000_000
"""The width with which it begins."""

# An eighth of an octave from 0.13 ms to 137 s, by dropping three bits of the buckets of all other distributions. What
# lies outside is counted at the end; the maximum is exact anyway.
_SHIFT: Final = 3
_LOWEST: Final = bucket_of(1 << 17) >> _SHIFT
_BUCKETS: Final = (bucket_of(1 << 37) >> _SHIFT) - _LOWEST
_MIDDLES: Final = np.array(
    [
        (bucket_start(bucket << _SHIFT) + bucket_start((bucket + 1) << _SHIFT)) // 2
        for bucket in range(_LOWEST, _LOWEST + _BUCKETS)
    ],
    np.int64,
)
_SHARES: Final = np.array([[0.5], [0.99]])
_FIGURES: Final = ("mean_ms", "p50_ms", "p99_ms", "max_ms")
_TOGETHER: Final = 256
"""Frames that are added together, if nobody asks before."""
_RESULTS, _DROPPED, _RECONNECTS, _TOOK = range(4)

Int64Array = npt.NDArray[np.int64]


class Course:
    """Results, losses, reconnects and end-to-end times, by the slot of time in which they were. Not locked.

    Slots are numbered from the clock's zero, so that courses of several streams are added up slot by slot. Memory is
    taken once, with the first event, and does not grow, however long the stream runs: a slot's percentiles come from
    buckets of an eighth of an octave (a relative error of at most 1/16), its mean and maximum are exact.
    """

    def __init__(self) -> None:
        self.width_ns = FIRST_NS
        self._first: int | None = None  # number of the slot in the first row
        self._last = 0  # of the last in which something happened
        self._sums = np.zeros((0, 4), np.int64)  # results, dropped, reconnects, nanoseconds
        self._largest = np.zeros(0, np.int64)
        self._buckets = np.zeros((0, _BUCKETS), np.uint32)
        self._left: list[tuple[Int64Array, Int64Array, Int64Array]] = []  # what was not added yet
        self._frames_left = 0

    def add(self, block: Block, stream: int = 0) -> None:
        """Add published frames of one of the block's streams that have left their last sink, by the time at which they
        did."""
        rows = block.rows(stream)
        frames = block.ended_ns[rows], block.durations[rows, -1], block.buckets[rows, -1]
        self._left.append((frames[0].copy(), frames[1].copy(), frames[2].copy()))
        self._frames_left += int(block.counts[stream])
        if self._frames_left >= _TOGETHER:
            self._catch_up()

    def _catch_up(self) -> None:
        """Little by little it would cost much more."""
        if not self._left:
            return
        ended_ns, took_ns, buckets = map(np.concatenate, zip(*self._left, strict=True))
        self._left, self._frames_left = [], 0
        rows = self._rows(ended_ns)
        np.add.at(self._sums[:, _RESULTS], rows, 1)
        np.add.at(self._sums[:, _TOOK], rows, took_ns)
        np.maximum.at(self._largest, rows, took_ns)
        np.add.at(self._buckets, (rows, np.clip((buckets >> _SHIFT) - _LOWEST, 0, _BUCKETS - 1)), 1)

    def lost(self, at_ns: Sequence[int]) -> None:
        """A frame was dropped at each of these times (monotonic)."""
        self._count(at_ns, _DROPPED)

    def reconnected(self, at_ns: Sequence[int]) -> None:
        """The first frame of a new connection came at each of these times."""
        self._count(at_ns, _RECONNECTS)

    def merge(self, other: Course) -> None:
        """Add another stream's; the slots become at least as wide as the wider of both."""
        self._catch_up()
        other._catch_up()
        if other._first is None:
            return
        if self._first is None:
            self._take(other)
            return
        same = copy(other)  # what is changed in it is made anew
        while True:
            assert self._first is not None
            assert same._first is not None
            first, last = min(self._first, same._first), max(self._last, same._last)
            if self.width_ns == same.width_ns and last - first < SLOTS:
                break
            if self.width_ns <= same.width_ns:
                self._widen()
            else:
                same._widen()
        self._begin_at(first)
        self._last = last
        theirs = slice(same._last - same._first + 1)
        ours = slice(same._first - first, same._last - first + 1)
        self._sums[ours] += same._sums[theirs]
        self._buckets[ours] += same._buckets[theirs]
        self._largest[ours] = np.maximum(self._largest[ours], same._largest[theirs])

    def as_dict(self, start_ns: int) -> dict[str, Any] | None:
        """``{"start_s", "step_s", "results", "dropped", "reconnects", "mean_ms", "p50_ms", "p99_ms", "max_ms"}``.

        Lists slot by slot, of which the first begins ``start_s`` after ``start_ns``, with None in slots without
        results. None where nothing happened at all.
        """
        self._catch_up()
        if self._first is None:
            return None
        used = slice(self._last - self._first + 1)
        results, dropped, reconnects, took_ns = self._sums[used].T
        buckets, largest_ns = self._buckets[used].ravel(), self._largest[used]
        places = (buckets != 0).nonzero()[0]  # most are empty
        sums, before = buckets[places].cumsum(dtype=np.int64), results.cumsum() - results
        ranks = np.maximum(np.ceil(results * _SHARES), 1).astype(np.int64)
        at = np.minimum(sums.searchsorted(before + ranks), places.size - 1)
        middles = _MIDDLES[places[at] % _BUCKETS] if places.size else np.zeros_like(ranks)
        taken_ns = np.vstack([took_ns / np.maximum(results, 1), np.minimum(middles, largest_ns), largest_ns])
        figures: list[list[float | None]] = np.round(taken_ns / 1e6, 3).tolist()
        for empty in (results == 0).nonzero()[0].tolist():
            for each in figures:
                each[empty] = None
        return {
            "start_s": round((self._first * self.width_ns - start_ns) / 1e9, 3),
            "step_s": self.width_ns / 1e9,
            "results": results.tolist(),
            "dropped": dropped.tolist(),
            "reconnects": reconnects.tolist(),
            **dict(zip(_FIGURES, figures, strict=True)),
        }

    def _count(self, at_ns: Sequence[int], what: int) -> None:
        rows = self._rows(np.array(at_ns, np.int64))
        np.add.at(self._sums[:, what], rows, 1)

    def _rows(self, at_ns: Int64Array) -> Int64Array:
        """The rows of these times; makes room for them."""
        if self._first is None:
            self._first = self._last = int(at_ns.min()) // self.width_ns
            # Written to, so that the memory is taken now and not little by little.
            self._sums, self._largest = np.full((SLOTS, 4), 0, np.int64), np.full(SLOTS, 0, np.int64)
            self._buckets = np.full((SLOTS, _BUCKETS), 0, np.uint32)
        while True:
            numbers: Int64Array = at_ns // self.width_ns
            first, last = min(self._first, int(numbers.min())), max(self._last, int(numbers.max()))
            if last - first < SLOTS:
                self._begin_at(first)
                self._last = last
                return numbers - first
            self._widen()

    def _widen(self) -> None:
        """Two slots become one."""
        assert self._first is not None
        first = self._first // 2
        into = (self._first + np.arange(SLOTS)) // 2 - first
        sums, largest = np.full_like(self._sums, 0), np.full_like(self._largest, 0)
        buckets = np.full_like(self._buckets, 0)
        np.add.at(sums, into, self._sums)
        np.add.at(buckets, into, self._buckets)
        np.maximum.at(largest, into, self._largest)
        self._sums, self._largest, self._buckets = sums, largest, buckets
        self._first, self._last = first, self._last // 2
        self.width_ns *= 2

    def _begin_at(self, first: int) -> None:
        """Make room before the first slot: what is rolled round the end is empty."""
        assert self._first is not None
        by, self._first = self._first - first, first
        if by:
            self._sums = np.roll(self._sums, by, axis=0)
            self._largest = np.roll(self._largest, by)
            self._buckets = np.roll(self._buckets, by, axis=0)

    def _take(self, other: Course) -> None:
        """Become what the other is."""
        self.width_ns, self._first, self._last = other.width_ns, other._first, other._last
        self._sums, self._largest, self._buckets = other._sums.copy(), other._largest.copy(), other._buckets.copy()
