# SPDX-License-Identifier: Apache-2.0
"""Several sources, one after the other, seen as one stream: index, pts and counters go on where the last one ended."""

from __future__ import annotations

from dataclasses import replace

from pipeline.frame import Capture, SourceCounters
from pipeline.protocols import Source


class Continuation:
    """Carries captures of successive sources over onto one axis.

    The index goes on; the epoch grows by one with each source that delivers a frame after another one did; pts goes on
    from the last frame by ``gap_s``, or by the time that passed between the two arrivals.

    Attributes:
        counters: sums over all sources so far.
    """

    def __init__(self) -> None:
        self.counters = SourceCounters()
        self._past = SourceCounters()
        self._inner: SourceCounters | None = None
        self._fresh = True
        self._index = 0
        self._epoch = 0
        self._offset_s = 0.0
        self._last: Capture | None = None

    def begin(self, source: Source) -> None:
        """The frames that follow come from ``source``."""
        self._count()
        if self._inner is not None:
            self._past = replace(self.counters)
        self._inner = source.counters
        self._fresh = True

    def carry(self, capture: Capture, gap_s: float | None = None) -> Capture:
        """``capture`` of the current source, in terms of the whole."""
        last = self._last
        if self._fresh:
            self._fresh = False
            if last is not None:
                passed = (capture.read_ns - last.read_ns) / 1e9 if gap_s is None else gap_s
                self._index = last.index + 1
                self._epoch = last.epoch + 1 - capture.epoch
                self._offset_s = last.pts_s + max(passed, 1e-6) - capture.pts_s
        self._count()
        self._last = carried = replace(
            capture,
            index=self._index + capture.index,
            pts_s=self._offset_s + capture.pts_s,
            epoch=self._epoch + capture.epoch,
        )
        return carried

    def _count(self) -> None:
        inner = self._inner
        if inner is None:
            return
        counters, past = self.counters, self._past
        counters.decode_errors = past.decode_errors + inner.decode_errors
        counters.skipped = past.skipped + inner.skipped
        counters.discontinuities = past.discontinuities + inner.discontinuities
        counters.decoder = inner.decoder or past.decoder
