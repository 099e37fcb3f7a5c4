# SPDX-License-Identifier: Apache-2.0
"""A recorded stream on a virtual clock: what moves the clock must know what comes next.

A thread of its own reads and decodes a few frames ahead while the simulation is at work: several in a row, while the
decoder and what it needs are in the cache. What it reads depends on nothing but the recording; when anybody hears of it
is the simulation's affair, which asks for it always at the same point.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Final

from pipeline.arrivals import VIRTUAL_NS, FrameLog, Virtual
from pipeline.events import Condition
from pipeline.frame import Capture, Picture, SourceCounters, StreamInfo
from pipeline.protocols import Source
from pipeline.threads import Crew, Handed, StopFlag

FRAMES: Final = 4
"""That are read in a row at most. While they are taken, as many are read behind them: up to eight pictures are held for
each stream."""
BYTES: Final = 4 << 20
"""No further one is read in a row whose pictures take that much: of 1080p two, of 4K one."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What came of reading a frame: it, the end (None), or an error; and how things stood then."""

    info: StreamInfo | None
    capture: Capture | None
    error: Exception | None
    at_ns: int
    counters: SourceCounters
    told: tuple[tuple[int, Condition], ...]


class Ahead:
    """A source that has always read ahead. Its frames have the times that they had when they were recorded.

    Args:
        name: of the stream.
        make_source: makes what is read, given who is to be told how it is.
        reading: the clock of that source, which its thread moves.
        clock: moved to the virtual time of what the simulation last heard of this stream.
        frames: what became of its frames then.
        by_read: they are known by the time of their packet, else by their number.
        on_state: told how the source is, in the simulation's thread.
    """

    truncation = None

    def __init__(
        self,
        name: str,
        make_source: Callable[[Callable[[Condition], None]], Source],
        reading: Virtual,
        clock: Virtual,
        frames: FrameLog,
        *,
        by_read: bool,
        on_state: Callable[[Condition], None] = lambda condition: None,
    ) -> None:
        self._clock = clock
        self.counters = SourceCounters()
        self._told: list[tuple[int, Condition]] = []
        self._source = make_source(lambda condition: self._told.append((reading.at_ns, condition)))
        self._reading = reading
        self._frames = frames
        self._by_read = by_read
        self._on_state = on_state
        self._crew: Crew[list[_Step]] = Crew([f"read:{name}"])
        self._handed: Handed[list[_Step]] | None = None  # what is being read
        self._steps: deque[_Step] = deque()  # what was read before, and nobody has heard of yet
        self._opened: StreamInfo | None = None  # in the reading thread
        self._inner = StopFlag()  # the reader's own stop may not be there yet
        self._stop = StopFlag()
        self._info: StreamInfo | None = None
        self._error: Exception | None = None
        self._next: Capture | None = None
        self._looked = False
        self._took_ns = 0  # for the latest one that was prepared
        self.begins_ns = self.ready_ns = 0

    def look(self) -> Picture | None:
        """Wait for what is read ahead, unless that was done; the next picture, or None at the end.

        From then on ``begins_ns`` says when its reader began to prepare that frame, and ``ready_ns`` when it was ready
        for the detector (virtual nanoseconds); at the end, both are when that was.
        """
        if not self._looked:
            self._looked = True
            if not self._steps:
                self._read_on()
            self._hear(self._steps.popleft())
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
        capture, self._next = self._next, None
        if capture is not None:  # after the end nobody reads on
            self._looked = False
        return capture

    def give_up(self) -> None:
        """Nobody waits for it any more: who does gets Closed. From any thread."""
        self._inner.set()
        self._crew.give_up()

    def close(self) -> None:
        """Close the source, once its thread has left it; may be called twice."""
        self._inner.set()
        if self._crew.rest():
            self._source.close()

    def _read_on(self) -> None:
        """Wait for what is being read, and have the next frames read."""
        if self._handed is None:
            self._crew.start()
            self._handed = self._crew.hand(self._several)
        self._steps.extend(self._handed.result())
        if self._steps[-1].capture is not None:
            self._handed = self._crew.hand(self._several)

    # The reading thread

    def _several(self) -> list[_Step]:
        """At least one; nothing comes after one without a frame."""
        steps = [self._step()]
        held = 0
        while (capture := steps[-1].capture) is not None and len(steps) < FRAMES:
            held += sum(plane.nbytes for plane in capture.picture.planes)
            if held >= BYTES:
                break
            steps.append(self._step())
        return steps

    def _step(self) -> _Step:
        capture, error = None, None
        try:
            if self._opened is None:
                self._opened = self._source.open(self._inner)
            capture = self._source.read()
        except Exception as failure:  # noqa: BLE001 - SourceError, or whatever a plug-in raises: again by who reads it
            error = failure
        told, self._told[:] = tuple(self._told), []
        counters = replace(self._source.counters, reconnects_by_cause=dict(self._source.counters.reconnects_by_cause))
        return _Step(self._opened, capture, error, self._reading.at_ns, counters, told)

    # The simulation's

    def _hear(self, step: _Step) -> None:
        for field in fields(SourceCounters):
            setattr(self.counters, field.name, getattr(step.counters, field.name))
        for at_ns, condition in step.told:
            self._clock.reach(at_ns, self._inner)
            self._on_state(condition)
        self._clock.reach(step.at_ns, self._inner)
        self._info, self._error = step.info, step.error
        self._next = self._timed(step.capture)

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
            if "prepare" in line and "prepared" not in line and "queued" in line:  # it was left to whoever took it
                ready_ns = line["queued"] + VIRTUAL_NS
        self.begins_ns = max(begins_ns, self.ready_ns)  # its reader is one thread: one frame after the other
        self.ready_ns = max(ready_ns, self.begins_ns)
        return capture
