# SPDX-License-Identifier: Apache-2.0
"""How steadily a stream's frames arrive, by the host's clock and by the stream's own time stamps."""

from __future__ import annotations

import math
import threading
from typing import Any, Final

from pipeline.timing import Histogram, TransitJitter

_BLOCK: Final = 256


_LONG_ENOUGH_S: Final = 10.0
"""A drift is told of so many seconds at least."""


class Drift:
    """The slope of pts over the host's clock, by least squares, in one pass (Welford's co-moments)."""

    __slots__ = ("_count", "_first", "_host", "_host2", "_pts", "_pts2", "_span_s", "_together")

    def __init__(self) -> None:
        self._first: tuple[int, int] | None = None
        self._count = 0
        self._host = self._pts = self._host2 = self._pts2 = self._together = self._span_s = 0.0

    def record(self, read_ns: int, pts_ns: int) -> None:
        """Add a frame of the same epoch."""
        if self._first is None:
            self._first = read_ns, pts_ns
        host, pts = (read_ns - self._first[0]) / 1e9, (pts_ns - self._first[1]) / 1e9
        self._count += 1
        off = host - self._host, pts - self._pts
        self._host += off[0] / self._count
        self._pts += off[1] / self._count
        self._host2 += off[0] * (host - self._host)
        self._pts2 += off[1] * (pts - self._pts)
        self._together += off[0] * (pts - self._pts)
        self._span_s = host

    @property
    def ppm(self) -> tuple[float, float] | None:
        """Parts per million by which pts are fast, and the standard error of that; None where it is too early."""
        if self._span_s < _LONG_ENOUGH_S or self._count < 3 or not self._host2:
            return None
        slope = self._together / self._host2
        rest = max(0.0, self._pts2 - slope * self._together)
        error = math.sqrt(rest / (self._count - 2) / self._host2)
        return round((slope - 1) * 1e6, 1), round(error * 1e6, 1)


class Arrivals:
    """Every frame that the decoder delivers, of streams that come at a pace of their own.

    The read loop only appends; whoever asks, or every 256th frame, does the work.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[int, int, int]] = []
        self._lock = threading.Lock()
        self._transit = TransitJitter()
        self._intervals = Histogram()
        self._drift = Drift()
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

    def as_dict(self, declared_fps: float | None) -> dict[str, Any]:
        """What the camera says of itself, and what is true of it.

        ``{"declared_fps", "measured_fps", "drift_ppm", "drift_error_ppm"}``: frames that the decoder delivered per
        second of a connection, and by how much the camera's clock (pts) is fast against the host's, with the standard
        error of that; None where there is too little to tell.
        """
        with self._lock:
            self._fold()
            spent_ns = self._intervals.total
            measured = round(self._intervals.count * 1e9 / spent_ns, 3) if spent_ns else None
            drift, error = self._drift.ppm or (None, None)
        declared = None if declared_fps is None else round(declared_fps, 3)
        return {
            "declared_fps": declared, "measured_fps": measured, "drift_ppm": drift, "drift_error_ppm": error,
        }  # fmt: skip

    def _fold(self) -> None:
        """Under the lock."""
        count = len(self._pending)
        for read_ns, pts_ns, epoch in self._pending[:count]:
            if epoch != self._epoch:  # what lies between two epochs is no interval of the camera's
                self._transit.reset()
                self._drift = Drift()
                self._epoch, self._last_ns = epoch, 0
            self._transit.record(read_ns, pts_ns)
            if self._last_ns:
                # B-frames were read after the frame that is shown after them.
                self._intervals.record(max(0, read_ns - self._last_ns))
            self._last_ns = read_ns
            self._drift.record(read_ns, pts_ns)
        del self._pending[:count]  # more may have come meanwhile
