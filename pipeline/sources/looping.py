# SPDX-License-Identifier: Apache-2.0
"""A source around a source: a recording that starts again when it ends (``loop: true``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.errors import SourceInvalid
from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.protocols import Source
from pipeline.sources.joining import Continuation
from pipeline.threads import StopFlag


class Looping:
    """Plays a recording over and over; ends only by stop or when it cannot be opened again.

    Index and pts go on from lap to lap, the first frame of a lap one interval after the last frame of the one before.
    The epoch grows at each lap: the scene is cut there, so that nothing is to be followed across it.

    Args:
        make_source: makes the source of one lap.
    """

    def __init__(self, make_source: Callable[[], Source]) -> None:
        self._make_source = make_source
        self._whole = Continuation()
        self.counters: SourceCounters = self._whole.counters
        self._source: Source | None = None
        self._stop = StopFlag()
        self._interval_s = 0.04
        self._last_s = 0.0
        self._frames_in_lap = 0

    def open(self, stop: StopFlag) -> StreamInfo:
        """Open the first lap. What is returned has no end: neither ``frames`` nor ``duration_s``."""
        self._stop = stop
        info = self._begin_lap()
        if info.fps:
            self._interval_s = 1.0 / info.fps
        return replace(info, frames=None, duration_s=None)

    def read(self) -> Capture | None:
        """The next frame, None once stop is set; raises SourceInvalid where a lap has no frame at all."""
        while self._source is not None:
            capture = self._source.read()
            if capture is not None:
                if self._frames_in_lap and capture.pts_s > self._last_s:
                    self._interval_s = min(capture.pts_s - self._last_s, 1.0)
                self._frames_in_lap += 1
                self._last_s = capture.pts_s
                return self._whole.carry(capture, self._interval_s)
            if self._stop.is_set():
                return None
            if not self._frames_in_lap:
                raise SourceInvalid("a recording without frames cannot be looped")
            self.close()
            self._begin_lap()
        return None

    @property
    def truncation(self) -> str | None:
        """None: it never ends by itself."""
        return None

    def close(self) -> None:
        """Release the current lap; may be called twice."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _begin_lap(self) -> StreamInfo:
        self._source = source = self._make_source()
        info = source.open(self._stop)
        self._whole.begin(source)
        self._frames_in_lap = 0
        return info
