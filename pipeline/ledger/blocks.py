# SPDX-License-Identifier: Apache-2.0
"""Finished traces, taken apart many at a time: what a trace costs is mostly paid per block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.measures import BUCKETS, Histogram, buckets_of
from pipeline.timing import AGE, EPOCH, PARTS, PTS, SLOTS, STAGES, WAITS, Mark

SERIES: Final = (*STAGES, *WAITS, "end_to_end")
"""What has a distribution: stages, places of waiting, and the whole way."""
SECOND_NS: Final = 1_000_000_000

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Tally(NamedTuple):
    """The durations of some frames, counted by bucket.

    Attributes:
        places: uint16, one per duration: the number of its series times :data:`pipeline.measures.BUCKETS`, plus that of
            its bucket.
        counts, totals, maxima: (len(SERIES),) int64, how many durations each series has, their sum and the longest.
    """

    places: npt.NDArray[np.uint16]
    counts: Int64Array
    totals: Int64Array
    maxima: Int64Array

    def histogram(self, series: str) -> Histogram:
        """Of one series."""
        number = SERIES.index(series)
        first = number * BUCKETS
        own = self.places[(self.places >= first) & (self.places < first + BUCKETS)] - first
        return Histogram.of(np.bincount(own, minlength=BUCKETS), int(self.totals[number]), int(self.maxima[number]))


def together(tallies: Iterable[Tally]) -> Tally:
    """All of them as one."""
    each = [NOTHING, *tallies]
    return Tally(
        np.concatenate([tally.places for tally in each]),
        np.sum([tally.counts for tally in each], axis=0),
        np.sum([tally.totals for tally in each], axis=0),
        np.max([tally.maxima for tally in each], axis=0),
    )


NOTHING: Final = Tally(np.zeros(0, np.uint16), *np.zeros((3, len(SERIES)), np.int64))


class Block:
    """Traces of one stream, all of published frames, in the order in which they were finished.

    Attributes:
        marks: (frames, len(Mark)) int64, 0 where a mark was not passed.
        pts_ns, epochs, ages_ns: (frames,) what stands behind the marks.
        ended_ns: (frames,) the last mark that each passed.
        durations: (frames, len(SERIES)) int64 nanoseconds, 0 where a frame did not pass.
        passed: (frames, len(SERIES)) whether it did.
        buckets: (frames, len(SERIES)) where the durations are counted.
        seconds: the seconds of the clock in which frames ended, ascending, and those that did.
        traces: the same as they came.
    """

    def __init__(self, traces: Sequence[list[int]]) -> None:
        self.traces = traces
        whole = np.array(traces, np.int64).reshape(len(traces), SLOTS)
        self.marks: Int64Array = whole[:, : len(Mark)]
        self.pts_ns: Int64Array = whole[:, PTS]
        self.epochs: Int64Array = whole[:, EPOCH]
        self.ages_ns: Int64Array = whole[:, AGE]
        # A mark that was not passed hands its interval to the next: it ends when the last passed one ended.
        until = np.maximum.accumulate(self.marks, axis=1)
        self.ended_ns: Int64Array = until[:, -1]
        self.durations: Int64Array = (until[:, 1:] - until[:, :-1]) @ _BELONGS
        self.passed: BoolArray = (self.marks[:, 1:] > 0) @ (_BELONGS > 0)
        self.passed[:, -1] = True  # the whole way is one even where nothing was passed
        self.buckets: Int64Array = buckets_of(self.durations)
        self._places = (self.buckets + _FIRST_PLACES).astype(np.uint16)
        self.seconds = list(self._by_second())

    def _by_second(self) -> Iterator[tuple[int, Tally]]:
        seconds = self.ended_ns // SECOND_NS
        first = int(seconds[0])
        if (seconds == first).all():
            yield first, self._tally(slice(None))
        else:
            for second in np.unique(seconds).tolist():
                yield second, self._tally(seconds == second)

    def _tally(self, rows: slice | BoolArray) -> Tally:
        passed, durations = self.passed[rows], self.durations[rows]
        return Tally(self._places[rows][passed], passed.sum(axis=0), durations.sum(axis=0), durations.max(axis=0))


def _belongs() -> Int64Array:
    """(len(Mark) - 1, len(SERIES)): 1 where the interval that ends at a mark is part of a series."""
    rows = [[series in (part, "end_to_end") for series in SERIES] for part in PARTS[1:]]
    belongs = np.array(rows, np.int64)
    belongs[:, SERIES.index("queue")] = [part in WAITS for part in PARTS[1:]]
    return belongs


_BELONGS: Final = _belongs()
_FIRST_PLACES: Final = np.arange(len(SERIES)) * BUCKETS
assert _FIRST_PLACES[-1] + BUCKETS <= 1 << 16
