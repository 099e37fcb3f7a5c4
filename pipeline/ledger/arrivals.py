# SPDX-License-Identifier: Apache-2.0
"""How steadily a stream's frames arrive, by the host's clock and by the stream's own time stamps."""

from __future__ import annotations

import threading
from typing import Final

from pipeline.timing import Histogram, TransitJitter

_BLOCK: Final = 256


class Arrivals:
    """Every frame that the decoder delivers, of streams that come at a pace of their own.

    The read loop only appends; whoever asks, or every 256th frame, does the work.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[int, int, int]] = []
        self._lock = threading.Lock()
        self._transit = TransitJitter()
        self._intervals = Histogram()
        self._last_ns = 0
        self._epoch = 0

    def add(self, read_ns: int, pts_ns: int, epoch: int) -> None:
        """A frame was read at ``read_ns`` (monotonic) with ``pts_ns``; called by the read loop."""
        self._pending.append((read_ns, pts_ns, epoch))
        if len(self._pending) >= _BLOCK:
            with self._lock:
                self._fold()

    @property
    def jitter_ns(self) -> float | None:
        """Interarrival jitter (RFC 3550, section 6.4.1), or None before the second frame."""
        with self._lock:
            self._fold()
            return self._transit.value_ns

    @property
    def interval_ns(self) -> int | None:
        """The median interval between two arrivals, or None before the second frame."""
        with self._lock:
            self._fold()
            return self._intervals.percentile(50)

    def _fold(self) -> None:
        """Under the lock."""
        count = len(self._pending)
        for read_ns, pts_ns, epoch in self._pending[:count]:
            if epoch != self._epoch:  # what lies between two epochs is no interval of the camera's
                self._transit.reset()
                self._epoch, self._last_ns = epoch, 0
            self._transit.record(read_ns, pts_ns)
            if self._last_ns:
                # B-frames were read after the frame that is shown after them.
                self._intervals.record(max(0, read_ns - self._last_ns))
            self._last_ns = read_ns
        del self._pending[:count]  # more may have come meanwhile
