# SPDX-License-Identifier: Apache-2.0
"""Finished traces, taken apart many at a time: what a trace costs is mostly paid per block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.timing import PARTS, SLOTS, STAGES, WAITS, Mark, bucket_of

SERIES: Final = (*STAGES, *WAITS, "end_to_end")
"""What has a distribution: stages, places of waiting, and the whole way."""

Int64Array = npt.NDArray[np.int64]


class Column(NamedTuple):
    """The durations of one series in the order of the frames, nanoseconds, and the buckets that they belong to."""

    values: list[int]
    buckets: list[int]


class Block:
    """Traces of one stream, all of published frames, in the order in which they were finished.

    Attributes:
        marks: (frames, len(Mark)) int64, 0 where a mark was not passed.
        ended_ns: (frames,) the last mark that each passed.
        durations: (frames, len(SERIES)) int64 nanoseconds, 0 where a frame did not pass.
        traces: the same as they came, with what stands behind the marks.
    """

    def __init__(self, traces: Sequence[list[int]]) -> None:
        self.traces = traces
        whole = np.array(traces, np.int64).reshape(len(traces), SLOTS)
        self.marks: Int64Array = whole[:, : len(Mark)]
        # A mark that was not passed hands its interval to the next: it ends when the last passed one ended.
        until = np.maximum.accumulate(self.marks, axis=1)
        self.ended_ns: Int64Array = until[:, -1]
        intervals = np.diff(until, axis=1)
        passed = self.marks[:, 1:] > 0
        self.durations: Int64Array = np.stack([intervals[:, where].sum(axis=1) for where in _COLUMNS], axis=1)
        self._present = np.stack([passed[:, where].any(axis=1) for where in _COLUMNS], axis=1)
        self._present[:, -1] = True  # the whole way is one even where nothing was passed
        self._buckets = _buckets(self.durations)
        self._all = list(self._columns(slice(None)))

    def columns(self, rows: npt.NDArray[np.bool_] | None = None) -> Iterable[tuple[str, Column]]:
        """Each series that some frame of ``rows`` (None: all) passed."""
        return self._all if rows is None else self._columns(rows)

    def _columns(self, rows: slice | npt.NDArray[np.bool_]) -> Iterator[tuple[str, Column]]:
        durations, buckets, present = self.durations[rows], self._buckets[rows], self._present[rows]
        for number, series in enumerate(SERIES):
            here = present[:, number]
            if here.all():
                yield series, Column(durations[:, number].tolist(), _SHARED[buckets[:, number]].tolist())
            elif here.any():
                yield series, Column(durations[here, number].tolist(), _SHARED[buckets[here, number]].tolist())

    @property
    def whole(self) -> tuple[Int64Array, Int64Array]:
        """The whole way of each frame, nanoseconds, and the bucket that it belongs to; (frames,) each."""
        return self.durations[:, -1], self._buckets[:, -1]

    def slots(self, length_ns: int) -> Iterator[tuple[int, npt.NDArray[np.bool_] | None]]:
        """Intervals of ``length_ns``, numbered from the clock's zero, in which frames ended, and which frames (None:
        all)."""
        numbers = self.ended_ns // length_ns
        found = sorted(set(numbers.tolist()))
        for number in found:
            yield number, None if len(found) == 1 else numbers == number


def _buckets(values: Int64Array) -> Int64Array:
    """:func:`pipeline.timing.bucket_of`, of many values."""
    octaves = np.maximum(np.frexp(values.astype(np.float64))[1] - _EXPONENT, 0)
    # Rounding to a float may have lifted a value just below a power of two to it.
    octaves -= (octaves > 0) & (values >> (octaves + _BITS) == 0)
    found: Int64Array = (octaves << _BITS) + (values >> octaves)
    return found


def _columns() -> list[list[int]]:
    """By series: the intervals (one less than their marks) that belong to it."""
    parts = [[mark - 1 for mark in range(1, len(Mark)) if PARTS[mark] == series] for series in SERIES]
    parts[SERIES.index("queue")] = [mark - 1 for mark in range(1, len(Mark)) if PARTS[mark] in WAITS]
    parts[-1] = list(range(len(Mark) - 1))
    return parts


_COLUMNS: Final = _columns()
_BITS: Final = (bucket_of(1 << 40) - bucket_of(1 << 39)).bit_length() - 1
_EXPONENT: Final = _BITS + 1
_SHARED: Final = np.array(range(bucket_of((1 << 63) - 1) + 1), np.object_)
"""The numbers of all buckets as Python's integers, each once: a histogram keeps those that it meets, and a daemon has
thousands of histograms."""
