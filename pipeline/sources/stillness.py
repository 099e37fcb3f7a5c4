# SPDX-License-Identifier: Apache-2.0
"""Whether a camera shows anything new: frames may come at their rate, and all be the same picture."""

from __future__ import annotations

import numpy as np

from pipeline.frame import Capture, SourceCounters, Uint8Array

_EVERY = 16
"""Macroblocks of H.264 are 16 pixels high: a row in each is a look at every one of them, at a sixteenth of the cost."""


class Stillness:
    """Notes since when the pictures of a feed have been the same to the last bit, and counts those that repeat the one
    before. A sensor's noise makes each picture different, in the dark as well. Where a codec leaves blocks out, it
    takes a key frame to show that, so pictures may be the same for a few seconds and the camera be well.
    """

    def __init__(self, counters: SourceCounters) -> None:
        """``counters`` is where it is noted: ``still_since_ns``, ``duplicates``."""
        self._counters = counters
        self._rows: Uint8Array | None = None

    def look(self, capture: Capture) -> None:
        """The next picture."""
        luma = capture.picture.planes[0]
        rows = luma[min(_EVERY, len(luma)) // 2 :: _EVERY]
        if self._rows is None or not np.array_equal(rows, self._rows):
            self._rows = rows.copy()
            self._counters.still_since_ns = capture.read_ns
        else:
            self._counters.duplicates += 1
