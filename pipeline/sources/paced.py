# SPDX-License-Identifier: Apache-2.0
"""A source around a source: delivers a recording at the pace of its own time stamps, as a camera would."""

from __future__ import annotations

from dataclasses import replace

from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.protocols import Source
from pipeline.threads import StopFlag
from pipeline.timing import SYSTEM, Clock


class Paced:
    """Holds each frame back until it is due: the first frame's time plus its pts.

    A frame that is late is delivered at once, and the time base stays, so that a short delay is caught up. A new epoch
    starts a new time base, one interval after the last frame. The marks ``read_ns`` and ``decoded_ns`` of a frame that
    was held back are moved by as much: it counts as read when a camera would have sent it, and pacing is no latency.

    Args:
        source: what is paced; best a recording.
        clock: where time comes from.
        wall: stamp ``wall_ns`` with the time of delivery, for a recording that plays the part of a camera.
    """

    def __init__(self, source: Source, clock: Clock = SYSTEM, *, wall: bool = False) -> None:
        self._source = source
        self._clock = clock
        self._wall = wall
        self._stop = StopFlag()
        self._base_ns: int | None = None
        self._epoch = 0
        self._last_s = 0.0
        self._interval_s = 0.0
        self.counters: SourceCounters = source.counters

    def open(self, stop: StopFlag) -> StreamInfo:
        """Open the inner source."""
        self._stop = stop
        return self._source.open(stop)

    def read(self) -> Capture | None:
        """The next frame when it is due; None at the end or once stop is set."""
        capture = self._source.read()
        if capture is None:
            return None
        arrived_ns = now_ns = self._clock.now_ns()
        due_ns = self._due_ns(capture, now_ns)
        while now_ns < due_ns:
            if self._stop.wait((due_ns - now_ns) / 1e9):
                return None
            now_ns = self._clock.now_ns()
        held_ns = now_ns - arrived_ns
        return replace(
            capture,
            read_ns=capture.read_ns + held_ns,
            decoded_ns=capture.decoded_ns + held_ns,
            wall_ns=self._clock.wall_ns() if self._wall else capture.wall_ns,
        )

    @property
    def truncation(self) -> str | None:
        """What the inner source says."""
        return self._source.truncation

    def close(self) -> None:
        """Close the inner source."""
        self._source.close()

    def _due_ns(self, capture: Capture, now_ns: int) -> int:
        at_ns = round(capture.pts_s * 1e9)
        if self._base_ns is None:
            self._base_ns = now_ns - at_ns
        elif capture.epoch != self._epoch:
            next_ns = self._base_ns + round((self._last_s + self._interval_s) * 1e9)
            self._base_ns = max(next_ns, now_ns) - at_ns
        else:
            self._interval_s = min(max(capture.pts_s - self._last_s, 0.0), 1.0)
        self._epoch = capture.epoch
        self._last_s = capture.pts_s
        return self._base_ns + at_ns
