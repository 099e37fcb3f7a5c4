# SPDX-License-Identifier: Apache-2.0
"""Which streams wait, which are open, and whether more may come."""

from __future__ import annotations

import threading
from collections import deque

from pipeline.flow.stream import Stream
from pipeline.frame import StreamKey


class Roster:
    """Gives each stream its key and opens at most ``parallel`` of them at once. Thread-safe."""

    def __init__(self, parallel: int | None) -> None:
        self._parallel = parallel
        self._lock = threading.Lock()
        self._waiting: deque[Stream] = deque()
        self._open: dict[StreamKey, Stream] = {}
        self._held: set[str] = set()  # names, so that a stream that is begun anew stays held
        self._finished = False
        self._generation = 0

    def add(self, stream: Stream) -> None:
        """Queue a stream; after :meth:`finish` it counts as stopped and never opens."""
        with self._lock:
            self._generation += 1
            stream.key = StreamKey(stream.account.name, self._generation)
            if self._finished:
                stream.account.never_opened()
            else:
                if stream.account.name in self._held and stream.pause is not None:
                    stream.pause(True)
                self._waiting.append(stream)

    def next(self) -> Stream | None:
        """The stream that is to be opened now, or None."""
        with self._lock:
            if not self._waiting or (self._parallel is not None and len(self._open) >= self._parallel):
                return None
            stream = self._waiting.popleft()
            self._open[stream.key] = stream
            return stream

    def closed(self, stream: Stream) -> None:
        """An open stream has ended."""
        with self._lock:
            self._open.pop(stream.key, None)
        stream.account.closed = True

    def open(self) -> list[Stream]:
        """The streams that are open, or about to be."""
        with self._lock:
            return list(self._open.values())

    def find(self, name: str) -> Stream | None:
        """The open stream of that name."""
        with self._lock:
            return next((stream for key, stream in self._open.items() if key.name == name), None)

    def stop(self, name: str | None = None) -> None:
        """Ask one stream, or all, to stop; those that wait never open."""
        with self._lock:
            for stream in [stream for stream in self._waiting if name in (None, stream.account.name)]:
                self._waiting.remove(stream)
                stream.account.never_opened()
            for stream in self._open.values():
                if name in (None, stream.account.name):
                    stream.stop.set()

    def pause(self, name: str, paused: bool) -> bool:
        """Hold one stream or let it go on; False where there is none of this name, or it cannot be held.

        One that is begun anew stays held, until it is let go on.
        """
        with self._lock:
            found = [stream for stream in (*self._open.values(), *self._waiting) if stream.account.name == name]
            held = [stream.pause for stream in found if stream.pause is not None and not stream.stop.is_set()]
            if held and paused:
                self._held.add(name)
            elif not paused:
                self._held.discard(name)
        for pause in held:
            pause(paused)
        return bool(held)

    def wake(self) -> None:
        """Have streams that wait for a person's help try again at once: something may have been cured."""
        with self._lock:
            waiting = [stream.wake for stream in self._open.values() if stream.wake is not None]
        for wake in waiting:
            wake()

    def finish(self) -> None:
        """No more streams will be added."""
        with self._lock:
            self._finished = True

    @property
    def done(self) -> bool:
        """Nothing is open, nothing waits and nothing more will come."""
        with self._lock:
            return self._finished and not self._waiting and not self._open
