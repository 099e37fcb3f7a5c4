# SPDX-License-Identifier: Apache-2.0
"""A source around a source: an operator can hold it and let it go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from pipeline.events import Condition
from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.protocols import Source
from pipeline.threads import StopFlag

log = logging.getLogger(__name__)


class Pausable:
    """Delivers nothing while it is paused. A recording stands still; a camera is hung up and called again afterwards.

    What is delivered after a pause is of a new epoch, so that nothing is followed or paced across it.

    Args:
        source: what may be held. With ``hang_up`` it must be able to be opened again after its stop was set, as
            :class:`pipeline.sources.reconnecting.Reconnecting` is, and it starts an epoch of its own then.
        name: of the stream, for the log.
        on_state: called with ``paused``, and with ``live`` when a recording goes on; a camera says itself how it is.
        hang_up: a pause ends the connection, even while it is being made or waited for.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str = "feed",
        on_state: Callable[[Condition], None] = lambda condition: None,
        hang_up: bool = False,
    ) -> None:
        self._source = source
        self._name = name
        self._on_state = on_state
        self._hang_up = hang_up
        self.counters: SourceCounters = source.counters
        self._stop = StopFlag()
        self._lock = threading.Lock()
        self._paused = False
        self._inner = StopFlag()  # ends the inner source: with the stream, or when a camera is hung up
        self._go_on = StopFlag()  # ends the pause
        self._pauses = 0
        self._never_opened = False

    def pause(self, paused: bool) -> None:
        """Hold it, or let it go on; from any thread, as often as you like."""
        with self._lock:
            if paused == self._paused:
                return
            self._paused = paused
            if not paused:
                self._go_on.set()
                return
            self._go_on = self._stop.child()
            if self._hang_up:
                self._inner.set()

    def open(self, stop: StopFlag) -> StreamInfo:
        """Open the inner source, after the pause if there is one; an empty StreamInfo if stop comes first."""
        with self._lock:
            self._stop = stop
            if self._paused:
                self._go_on = stop.child()
        while True:
            self._hold()
            if stop.is_set() and self._pauses:
                self._never_opened = True
                return StreamInfo("", live=True)
            info = self._source.open(self._new_inner())
            if not self._hung_up() or stop.is_set():
                return info
            self._source.close()

    def read(self) -> Capture | None:
        """The next frame; None at the end or once stop is set."""
        while not self._never_opened:
            if (self._paused or self._hung_up()) and not self._stop.is_set():
                if self._hang_up:
                    self._source.close()
                self._hold()
                if self._stop.is_set():
                    return None
                if self._hang_up:
                    self._source.open(self._new_inner())
                    continue
                self._on_state(Condition("live"))
            capture = self._source.read()
            if capture is None and self._hung_up() and not self._stop.is_set():
                continue  # that was a pause, even if it is over already, and not the end
            if capture is None or self._hang_up or not self._pauses:
                return capture
            return replace(capture, epoch=capture.epoch + self._pauses)
        return None

    @property
    def truncation(self) -> str | None:
        """What the inner source says."""
        return self._source.truncation

    def close(self) -> None:
        """Close the inner source."""
        self._source.close()

    def _new_inner(self) -> StopFlag:
        with self._lock:
            self._inner = self._stop.child() if self._hang_up else self._stop
            if self._hang_up and self._paused:
                self._inner.set()
            return self._inner

    def _hung_up(self) -> bool:
        """A pause has ended this connection, or forbidden to make it."""
        return self._hang_up and self._inner.is_set()

    def _hold(self) -> None:
        """Wait for the end of a pause, if there is one."""
        asked_for = {"event": True, "stream": self._name}  # each time by somebody: the log folds none away
        while True:
            with self._lock:
                if not self._paused or self._stop.is_set():
                    return
                go_on = self._go_on
            self._pauses += 1
            self._on_state(Condition("paused"))
            log.info("%s: paused", self._name, extra=asked_for)
            while not go_on.wait(3600.0):
                pass
            if not self._stop.is_set():
                log.info("%s: goes on", self._name, extra=asked_for)
