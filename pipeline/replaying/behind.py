# SPDX-License-Identifier: Apache-2.0
"""What comes of decisions, some batches behind them: the network computes while the simulation decides on.

No decision depends on what the network finds, only on how long it took in the recording. So what is published waits in
a line, with the time at which it was due; a batch in it is waited for when it comes first and the line is long enough.
Everything is handled in the order, and at the virtual time, in which it would have been handled at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from pipeline.flow.publishing import Inbound, Publisher
from pipeline.replaying.simulated_clock import SimulatedClock
from pipeline.threads import Put

MOST_FRAMES: Final = 8
"""Frames of batches that are done by the virtual clock, and may still be computed."""
_MOST_OF_MANY: Final = 64
"""The same where many threads compute: each of these frames may hold a picture."""
_MOST_EVENTS: Final = 256
"""Of all that waits: where frames are lost one after the other, few batches come."""


def most_frames(threads: int, batch_size: int) -> int:
    """How many may wait, so that each thread has a batch while the first one is waited for."""
    return min(max(MOST_FRAMES, threads * batch_size), _MOST_OF_MANY)


class _Event(NamedTuple):
    at_ns: int
    frames: int
    handle: Callable[[], object]


class Behind:
    """A line of what is to be handled. Used by the one thread that decides.

    Args:
        clock: shows, while something is handled, the time at which that was put here.
        most: frames of batches that wait at most; 0: each batch is waited for at once. What is published, and when by
            the clock, does not depend on it.
    """

    def __init__(self, clock: SimulatedClock, most: int = MOST_FRAMES) -> None:
        self._clock = clock
        self._most = most
        self._line: deque[_Event] = deque()  # a batch comes first
        self._frames = 0
        self._handling = False
        self._publisher: Publisher | None = None

    def after(self, publisher: Publisher) -> Put[Inbound]:
        """Its ``handle``, for whoever must not overtake batches; what it holds leaves when it is due by the clock."""
        self._publisher = publisher

        def put(*events: Inbound) -> None:
            if self._handling or not self._line:
                self._play_out(self._clock.now_ns())
                publisher.handle(*events)
            else:
                self._append(0, partial(put, *events))

        return put

    def batch(self, frames: int, complete: Callable[[], None]) -> None:
        """A batch is done by the clock; ``complete`` waits for its results and publishes them."""
        self._append(frames, complete)

    def catch_up(self) -> None:
        """Handle everything; what is due later, then."""
        while self._line:
            self._handle_first()
        self._play_out(None)

    def _play_out(self, until_ns: int | None) -> None:
        """Let leave what is due up to then."""
        now_ns, publisher = self._clock.now_ns(), self._publisher
        while publisher is not None and (due_ns := publisher.due_ns) is not None:
            if until_ns is not None and due_ns > until_ns:
                break
            self._clock.set(due_ns or now_ns)  # at once, after a stop
            publisher.handle()
        self._clock.set(now_ns if until_ns is not None else max(now_ns, self._clock.now_ns()))

    def _append(self, frames: int, handle: Callable[[], object]) -> None:
        self._line.append(_Event(self._clock.now_ns(), frames, handle))
        self._frames += frames
        while self._frames > self._most or len(self._line) > _MOST_EVENTS or (self._line and not self._line[0].frames):
            self._handle_first()

    def _handle_first(self) -> None:
        first = self._line.popleft()
        self._frames -= first.frames
        now_ns = self._clock.now_ns()
        self._clock.set(first.at_ns)
        self._handling = True
        try:
            first.handle()
        finally:
            self._handling = False
            self._clock.set(now_ns)
