# SPDX-License-Identifier: Apache-2.0
"""What was measured lately: distributions that forget, by dropping whole slots of time."""

from __future__ import annotations

from typing import Any, Final

from pipeline.ledger.blocks import Block
from pipeline.ledger.stats import by_kind, stats
from pipeline.timing import Histogram

SPANS: Final = {10: 5, 60: 12}
"""Seconds that are looked back on, and the slots into which they are divided."""


class Window:
    """Distributions of the frames that finished within the last ``span_s``, to within a slot: the slot that began
    earliest is forgotten as a whole when a new one begins, so between one slot less and the full span is covered.

    A frame belongs to the slot in which it finished, whenever it is added. Not locked.
    """

    def __init__(self, span_s: int) -> None:
        self._slots = SPANS[span_s]
        self._length_ns = span_s * 1_000_000_000 // self._slots
        self._newest = 0
        self._by_slot: dict[int, dict[str, Histogram]] = {}
        self._past: tuple[int, int, dict[str, Histogram]] | None = None  # all slots but the newest, added up

    def add(self, block: Block) -> None:
        """Add finished frames; such as are too old already are left out."""
        for slot, rows in block.slots(self._length_ns):
            if slot > self._newest:
                self._newest = slot
                for old in [each for each in self._by_slot if each <= slot - self._slots]:
                    del self._by_slot[old]
            elif slot <= self._newest - self._slots:
                continue
            if slot < self._newest:
                self._past = None
            histograms = self._by_slot.setdefault(slot, {})
            for series, column in block.columns(rows):
                histogram = histograms.get(series)
                if histogram is None:
                    histogram = histograms[series] = Histogram()
                histogram.add(*column)

    def merge_into(self, whole: dict[str, Histogram], now_ns: int, only: str | None = None) -> None:
        """Add what falls in the window that ends at ``now_ns`` (monotonic), of all series or of one."""
        oldest, newest = now_ns // self._length_ns - self._slots, self._newest
        if self._past is None or self._past[:2] != (oldest, newest):
            past: dict[str, Histogram] = {}
            for slot in self._by_slot:
                if oldest < slot < newest:
                    _merge(past, self._by_slot[slot])
            self._past = oldest, newest, past
        _merge(whole, self._past[2])
        if newest > oldest:
            _merge(whole, self._by_slot.get(newest, {}))


def _merge(whole: dict[str, Histogram], more: dict[str, Histogram]) -> None:
    for series, histogram in more.items():
        whole.setdefault(series, Histogram()).merge(histogram)


def figures(series: dict[str, Histogram]) -> dict[str, Any]:
    """``{"stages": {STAGE: STATS}, "waits": {PLACE: STATS}, "end_to_end": STATS | None}``, STATS without jitter."""
    return by_kind({name: stats(histogram) for name, histogram in series.items()})
