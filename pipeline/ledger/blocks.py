# SPDX-License-Identifier: Apache-2.0
"""Finished traces, taken apart many at a time: what a trace costs is mostly paid per block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.measures import BUCKETS, Histogram, buckets_of
from pipeline.timing import AGE, EPOCH, PARTS, PTS, SLOTS, STAGES, WAITS, Mark

SERIES: Final = (*STAGES, *WAITS, "end_to_end")
"""What has a distribution: stages, places of waiting, and the whole way."""
SECOND_NS: Final = 1_000_000_000

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
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


_NONE: Final = np.zeros(0, np.uint16)
_ZERO: Final = np.zeros(1, np.int64)
NOTHING: Final = Tally(_NONE, *np.zeros((3, len(SERIES)), np.int64))


class Block:
    """Traces of published frames, of one stream or of several, each stream's in the order in which they were finished.

    Attributes:
        traces: as they came, those of the first stream first.
        firsts, counts: (streams,) the first row of each stream, and how many it has: one at least.
        owners: (frames,) the number of the stream that each is of.
        marks: (frames, len(Mark)) int64, 0 where a mark was not passed.
        pts_ns, epochs, ages_ns: (frames,) what stands behind the marks.
        ended_ns: (frames,) the last mark that each passed.
        durations: (frames, len(SERIES)) int64 nanoseconds, 0 where a frame did not pass.
        passed: (frames, len(SERIES)) whether it did.
        buckets: (frames, len(SERIES)) where the durations are counted.
        published_ns: (frames,) when each was published.
        published: (frames,) the rows in the order in which they were published, stream after stream.
        tallies: by stream, all of its durations.
        seconds: by stream, the seconds of the clock in which frames ended, ascending, and those that did.
    """

    def __init__(self, traces: Sequence[list[int]], *others: Sequence[list[int]]) -> None:
        """``traces`` of one stream, ``others`` of others; none of them empty."""
        each = (traces, *others)
        self.counts: Int64Array = np.array([len(some) for some in each])
        self.firsts: Int64Array = self.counts.cumsum() - self.counts
        self.owners: Int64Array = np.repeat(np.arange(len(each)), self.counts)
        self.traces = [trace for some in each for trace in some]
        whole = np.array(self.traces, np.int64).reshape(len(self.traces), SLOTS)
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
        self.published_ns: Int64Array = np.maximum(self.marks[:, Mark.FOLLOWED], self.marks[:, Mark.PLAYED])
        self.published = _in_order(self.owners, self.published_ns)
        self._tell()

    def rows(self, stream: int) -> slice:
        """The rows of one of the streams."""
        return slice(int(self.firsts[stream]), int(self.firsts[stream] + self.counts[stream]))

    def _tell(self) -> None:
        """Count the durations, by stream and second."""
        seconds = self.ended_ns // SECOND_NS
        order = _in_order(self.owners, seconds)
        owners, seconds = self.owners[order], seconds[order]
        passed, durations, buckets = self.passed[order], self.durations[order], self.buckets[order]
        new = (owners[1:] != owners[:-1]) | (seconds[1:] != seconds[:-1])
        firsts = np.concatenate([_ZERO, new.nonzero()[0] + 1])
        places = (buckets + FIRST_PLACES).astype(np.uint16)[passed]
        each = _tallies(places, passed, durations, firsts)
        self.seconds: list[list[tuple[int, Tally]]] = [[] for _ in self.counts]
        for owner, second, tally in zip(owners[firsts].tolist(), seconds[firsts].tolist(), each, strict=True):
            self.seconds[owner].append((second, tally))
        # Of most streams all frames ended in the same second.
        by_stream = firsts.size == self.counts.size
        self.tallies = each if by_stream else _tallies(places, passed, durations, self.firsts)


def _in_order(owners: Int64Array, values: Int64Array) -> Int64Array:
    """Rows by owner and then by value; those alike as they came."""
    if ((owners[1:] > owners[:-1]) | (values[1:] >= values[:-1])).all():
        return np.arange(len(values))
    return np.lexsort((values, owners))


def _tallies(
    places: npt.NDArray[np.uint16],
    passed: BoolArray,
    durations: Int64Array,
    firsts: Int64Array,
) -> list[Tally]:
    """Of rows that go together, each group from one of ``firsts`` on."""
    counts = np.add.reduceat(passed, firsts, axis=0, dtype=np.int64)
    totals = np.add.reduceat(durations, firsts, axis=0)
    maxima = np.maximum.reduceat(durations, firsts, axis=0)
    ends = counts.sum(axis=1).cumsum().tolist()
    each = zip([0, *ends], ends, counts, totals, maxima, strict=False)
    return [Tally(places[begin:end], *sums) for begin, end, *sums in each]


def _belongs() -> Int64Array:
    """(len(Mark) - 1, len(SERIES)): 1 where the interval that ends at a mark is part of a series."""
    rows = [[series in (part, "end_to_end") for series in SERIES] for part in PARTS[1:]]
    belongs = np.array(rows, np.int64)
    belongs[:, SERIES.index("queue")] = [part in WAITS for part in PARTS[1:]]
    return belongs


_BELONGS: Final = _belongs()
FIRST_PLACES: Final = np.arange(len(SERIES)) * BUCKETS
"""Where the places of each series begin."""
assert FIRST_PLACES[-1] + BUCKETS <= 1 << 16
WHOLE_WAY: Final = int(FIRST_PLACES[-1])
"""The first place of end-to-end times, which are the last series."""
