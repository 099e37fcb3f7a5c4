# SPDX-License-Identifier: Apache-2.0
"""What was measured lately: distributions that forget, second by second."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.ledger.blocks import NOTHING, SECOND_NS, SERIES, Block, Int64Array, Tally

SPANS: Final = (10, 60)
"""Seconds that are looked back on."""
_ROWS: Final = max(SPANS)
_COUNTS, _TOTALS, _MAXIMA = range(3)


class Window:
    """What finished within the last minute, by the second in which it did, whenever it is added. Not locked.

    A whole second is forgotten when a new one begins, so between a second less and the full span is looked back on.
    Nothing is added up before somebody asks; a frame takes 26 bytes for a minute.
    """

    def __init__(self) -> None:
        # A second has the row of its number modulo their number.
        self._seconds: Int64Array = np.full(_ROWS, -1, np.int64)
        self._sums: Int64Array = np.zeros((3, _ROWS, len(SERIES)), np.int64)
        self._places: list[list[npt.NDArray[np.uint16]]] = [[] for _ in range(_ROWS)]

    def add(self, block: Block) -> None:
        """Add finished frames; such as are too old already are left out."""
        for second, tally in block.seconds:
            row = second % _ROWS
            if second < self._seconds[row]:
                continue
            if second > self._seconds[row]:
                self._seconds[row], self._sums[:, row], self._places[row] = second, 0, []
            self._places[row].append(tally.places)
            self._sums[_COUNTS, row] += tally.counts
            self._sums[_TOTALS, row] += tally.totals
            np.maximum(self._sums[_MAXIMA, row], tally.maxima, out=self._sums[_MAXIMA, row])

    def tally(self, span_s: int, now_ns: int) -> Tally:
        """What finished in the ``span_s`` (one of :data:`SPANS`) up to ``now_ns`` (monotonic)."""
        rows = np.flatnonzero(self._seconds > now_ns // SECOND_NS - span_s)
        places = [places for row in rows.tolist() for places in self._places[row]]
        return Tally(
            np.concatenate([NOTHING.places, *places]),
            self._sums[_COUNTS, rows].sum(axis=0),
            self._sums[_TOTALS, rows].sum(axis=0),
            self._sums[_MAXIMA, rows].max(axis=0, initial=0),
        )
