# SPDX-License-Identifier: Apache-2.0
"""A recorded stream on a virtual clock: what moves the clock must know what comes next."""

from __future__ import annotations

from dataclasses import replace

from pipeline.arrivals.feed import FrameLog
from pipeline.arrivals.play_clock import VIRTUAL_NS, Virtual
from pipeline.errors import SourceError
from pipeline.frame import Capture, Picture, SourceCounters, StreamInfo
from pipeline.protocols import Source
from pipeline.threads import StopFlag


class Ahead:
    """A source that has always read one frame ahead. Its frames have the times that they had when they were recorded.

    Args:
        source: what is read.
        clock: that of ``source``.
        frames: what became of its frames then.
        by_read: they are known by the time of their packet, else by their number.
    """

    truncation = None

    def __init__(self, source: Source, clock: Virtual, frames: FrameLog, *, by_read: bool) -> None:
        self._source = source
        self._clock = clock
        self._frames = frames
        self._by_read = by_read
        self._inner = StopFlag()  # the reader's own stop may not be there yet
        self._stop = StopFlag()
        self._info: StreamInfo | None = None
        self._error: SourceError | None = None
        self._next: Capture | None = None
        self._looked = False
        self._took_ns = 0  # for the latest one that was prepared
        self.begins_ns = self.ready_ns = 0
        self.counters: SourceCounters = source.counters

    def look(self) -> Picture | None:
        """Read ahead, unless that was done; the next picture, or None at the end.

        From then on ``begins_ns`` says when its reader began to prepare that frame, and ``ready_ns`` when it was ready
        for the detector (virtual nanoseconds); at the end, both are when that was.
        """
        if not self._looked:
            self._looked = True
            try:
                if self._info is None:
                    self._info = self._source.open(self._inner)
                self._next = self._timed(self._source.read())
            except SourceError as error:
                self._error, self._next = error, self._timed(None)
        return None if self._next is None else self._next.picture

    def open(self, stop: StopFlag) -> StreamInfo:
        """See :meth:`pipeline.protocols.Source.open`."""
        self._stop = stop
        self.look()
        if self._info is None:
            assert self._error is not None, "it opens or fails"
            raise self._error
        return self._info

    def read(self) -> Capture | None:
        """The next frame, which is there already."""
        if self._stop.is_set():
            return None
        self.look()
        if self._error is not None:
            raise self._error
        self._looked = self._next is None  # after the end nobody reads on
        return self._next

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _timed(self, capture: Capture | None) -> Capture | None:
        if capture is None:
            self.begins_ns = self.ready_ns = max(self.ready_ns, self._clock.now_ns())
            return None
        line = self._frames.find(capture.read_ns - VIRTUAL_NS if self._by_read else capture.index) or {}
        begins_ns = ready_ns = capture.decoded_ns
        if line:
            read_ns, decoded_ns = (line.get(mark, line["read"]) + VIRTUAL_NS for mark in ("read", "decoded"))
            wall_ns = self._clock.wall_ns() + read_ns - self._clock.now_ns()
            capture = replace(capture, read_ns=read_ns, decoded_ns=decoded_ns, wall_ns=wall_ns)
            # One that was turned away before it was prepared has the time at which that was decided.
            begins_ns = line.get("prepare", line.get("queued", decoded_ns - VIRTUAL_NS)) + VIRTUAL_NS
            if "prepared" in line:
                self._took_ns = line["prepared"] + VIRTUAL_NS - begins_ns
            ready_ns = begins_ns + self._took_ns
        self.begins_ns = max(begins_ns, self.ready_ns)  # its reader is one thread: one frame after the other
        self.ready_ns = max(ready_ns, self.begins_ns)
        return capture
