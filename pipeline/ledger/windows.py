# SPDX-License-Identifier: Apache-2.0
"""What was measured lately: distributions that forget, second by second."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.ledger.blocks import NOTHING, SECOND_NS, SERIES, Int64Array, Tally

SPANS: Final = (10, 60)
"""Seconds that are looked back on."""
_ROWS: Final = max(SPANS)
_COUNTS, _TOTALS, _MAXIMA = range(3)


class Whole(NamedTuple):
    """How long some frames took in all.

    Attributes:
        places: pieces of those of all series, see :class:`pipeline.ledger.blocks.Tally`: the last series counts.
        frames: how many.
        total, maximum: nanoseconds.
    """

    places: list[npt.NDArray[np.uint16]]
    frames: int
    total: int
    maximum: int


class Window:
    """What finished within the last minute, by the second in which it finished, whenever it is added. Not locked.

    A whole second is forgotten when a new one begins, so between a second less and the full span is looked back on.
    Nothing is added up before somebody asks; a frame takes 26 bytes for a minute.
    """

    def __init__(self) -> None:
        # A second has the row of its number modulo their number.
        self._seconds = [-1] * _ROWS
        self._sums: Int64Array = np.zeros((3, _ROWS, len(SERIES)), np.int64)
        self._places: list[list[npt.NDArray[np.uint16]]] = [[] for _ in range(_ROWS)]

    def add(self, seconds: Iterable[tuple[int, Tally]]) -> None:
        """Add finished frames, by the second in which they finished; those that are too old already are left out."""
        for second, tally in seconds:
            row = second % _ROWS
            if second < self._seconds[row]:
                continue
            places = tally.places.copy()  # those of other streams in the same block may be forgotten sooner
            if second > self._seconds[row]:
                self._seconds[row], self._places[row] = second, [places]
                self._sums[:, row] = tally.counts, tally.totals, tally.maxima
                continue
            self._places[row].append(places)
            self._sums[_COUNTS, row] += tally.counts
            self._sums[_TOTALS, row] += tally.totals
            np.maximum(self._sums[_MAXIMA, row], tally.maxima, out=self._sums[_MAXIMA, row])

    def tally(self, span_s: int, now_ns: int) -> Tally:
        """What finished in the ``span_s`` (one of :data:`SPANS`) up to ``now_ns`` (monotonic)."""
        rows = self._rows(span_s, now_ns)
        sums = self._sums[:, rows]
        return Tally(
            np.concatenate([NOTHING.places, *self._pieces(rows)]),
            sums[_COUNTS].sum(axis=0),
            sums[_TOTALS].sum(axis=0),
            sums[_MAXIMA].max(axis=0, initial=0),
        )

    def whole(self, span_s: int, now_ns: int) -> Whole:
        """The same of the whole way only, at a tenth of the work."""
        rows = self._rows(span_s, now_ns)
        counts, totals, maxima = self._sums[:, rows, -1].tolist()
        return Whole(self._pieces(rows), sum(counts), sum(totals), max(maxima, default=0))

    def _pieces(self, rows: list[int]) -> list[npt.NDArray[np.uint16]]:
        return [places for row in rows for places in self._places[row]]

    def _rows(self, span_s: int, now_ns: int) -> list[int]:
        after = now_ns // SECOND_NS - span_s
        return [row for row, second in enumerate(self._seconds) if second > after]
