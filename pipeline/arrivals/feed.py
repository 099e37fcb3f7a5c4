# SPDX-License-Identifier: Apache-2.0
"""Everything that arrived of one stream, as a source: connections, losses and reconnects at their times."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.arrivals.connection import FailedConnection, RecordedConnection
from pipeline.arrivals.play_clock import PlayClock, RealTime
from pipeline.arrivals.tape import Tape
from pipeline.events import Condition
from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.protocols import Source
from pipeline.sources.auto_skip import AutoSkip
from pipeline.sources.looping import Looping
from pipeline.sources.opening import Limits, Skip
from pipeline.sources.reconnecting import Reconnecting
from pipeline.threads import StopFlag

_SEEN = 256
"""Frames that may come in another order than their packets did."""


class FrameLog:
    """What became of the frames of a stream, looked up in about the order in which they came.

    Args:
        lines: of ``frames.jsonl``.
        key: what a frame is known by: ``read``, the time of its packet, or ``frame``, its number.
    """

    def __init__(self, lines: Iterator[dict[str, Any]], key: str) -> None:
        self._lines = lines
        self._key = key
        self._seen: dict[int, deque[dict[str, Any]]] = {}  # a packet may hold several frames
        self._newest = -1

    def find(self, value: int) -> dict[str, Any] | None:
        """The line of a frame; None where there is none, or it was looked up long after those behind it."""
        while value not in self._seen and self._newest <= value and (line := next(self._lines, None)) is not None:
            self._newest = max(self._newest, line[self._key])
            self._seen.setdefault(line[self._key], deque(maxlen=_SEEN)).append(line)
            if len(self._seen) > _SEEN:
                del self._seen[next(iter(self._seen))]
        lines = self._seen.pop(value, None)
        if lines is None:
            return None
        line = lines.popleft()
        if lines:
            self._seen[value] = lines
        return line


class Arrivals:
    """One stream of a recording; ends when the recording does, or its :meth:`open`'s stop is set.

    A camera is kept alive by the same code as in a run, only that its connections fail and open when they did then. A
    recording that played the part of a camera gives its frames out when it did then.

    Args:
        folder: of the stream.
        tape: its log.
        frames: what became of its frames.
        kind: see :class:`pipeline.arrivals.stream_recorder.StreamRecorder`.
        clock: when the recorded times are.
        limits, skip: of the decoder.
        on_state: as of :class:`pipeline.sources.Reconnecting`.
    """

    truncation = None

    def __init__(
        self,
        folder: Path,
        tape: Tape,
        frames: FrameLog,
        kind: str,
        clock: PlayClock,
        *,
        limits: Limits,
        skip: Skip | AutoSkip,
        on_state: Callable[[Condition], None],
    ) -> None:
        self._folder = folder
        self._tape = tape
        self._frames = frames
        self._clock = clock
        self._limits = limits
        self._skip = skip
        self._stop = self._end = StopFlag()
        self._inner: Source
        if kind == "camera":
            # Pauses are those that were made then: they are part of the recording.
            self._inner = Reconnecting(
                self._connection, name=tape.name, on_state=on_state, max_backoff_s=0.0, slow_lane_s=0.0
            )
        else:
            self._inner = Looping(self._connection)
        self._holds = kind != "camera" and isinstance(clock, RealTime)
        self.counters: SourceCounters = self._inner.counters

    def open(self, stop: StopFlag) -> StreamInfo:
        """See :meth:`pipeline.protocols.Source.open`."""
        self._stop, self._end = stop, stop.child()  # the second one also ends it when the recording does
        return self._inner.open(self._end)

    def read(self) -> Capture | None:
        """The next frame; None at the end of the recording, or once stop is set."""
        capture = self._inner.read()
        return self._held(capture) if self._holds and capture is not None else capture

    def close(self) -> None:
        """Let go of files and decoder; may be called twice."""
        self._inner.close()

    def _connection(self) -> Source:
        line = self._tape.next_attempt()
        if line is None:
            self._end.set()
            return _Nothing()
        if "opened" not in line:
            return FailedConnection(self._tape, line, self._clock)
        return RecordedConnection(self._folder, self._tape, line, self._clock, self._end.set, self._limits, self._skip)

    def _held(self, capture: Capture) -> Capture | None:
        """The frame when it was given out; its marks are moved by as much, as :class:`pipeline.sources.Paced` does."""
        line = self._frames.find(capture.index)
        if line is None:
            return capture
        arrived_ns = self._clock.now_ns()
        if not self._clock.reach(line.get("decoded", line["read"]), self._stop):
            return None
        held_ns = self._clock.now_ns() - arrived_ns
        return replace(
            capture,
            read_ns=capture.read_ns + held_ns,
            decoded_ns=capture.decoded_ns + held_ns,
            wall_ns=self._clock.wall_ns(),
        )


class _Nothing:
    """What there is after the end."""

    truncation = None

    def __init__(self) -> None:
        self.counters = SourceCounters()

    def open(self, stop: StopFlag) -> StreamInfo:
        return StreamInfo("", live=True)

    def read(self) -> None:
        pass

    def close(self) -> None:
        pass
