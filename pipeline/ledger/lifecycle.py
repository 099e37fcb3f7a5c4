# SPDX-License-Identifier: Apache-2.0
"""The state machine of one stream, and the events that its changes are."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pipeline.errors import Cause
from pipeline.events import Condition, EventKind, StreamEvent, StreamState
from pipeline.figures import count
from pipeline.frame import StreamInfo
from pipeline.redact import scrub
from pipeline.timing import SYSTEM, Clock

Listener = Callable[[StreamEvent], None]

ENDED: Final[frozenset[str]] = frozenset({"failed", "finished", "truncated", "stopped"})
_TRYING: Final = frozenset({"connecting", "backoff", "auth_failed", "failed"})
_FRUITLESS: Final = frozenset({"stage", "inference"})
_DOWN: Final = frozenset({"backoff", "auth_failed", "failed"})
EVENT_NS: Final = 1_000_000_000
"""Changes of parameters and time stamps are told once a second at most: a camera may break its time stamps with every
frame. All are counted, and the last one is always told."""


class Lifecycle:
    """How a stream is, since when and why. Its source, a supervisor and its read loop say so, each in its own thread.

    An event is told when the stream comes up, when it ceases to be up, and when the cause of that changes: not at every
    attempt, so that a camera that is away for a week is two events.

    Attributes:
        state, cause, detail: how it is, and why it is not live, or gives no results although it is.
        since_ns: when that began; connecting and waiting to connect again are one thing.
        attempts: connections tried since the last frame.
        next_try_ns: when the next one comes (monotonic), or None.
        changes: times that its source said how it is.
        closed: it is no longer read; whoever speaks up later is not heard.
        told: events so far by kind and cause (empty for none).
        stalls, param_changes: how often.
    """

    def __init__(self, name: str, info: StreamInfo, *, clock: Clock = SYSTEM) -> None:
        self.info = info
        self.state: StreamState = "connecting"
        self.cause: Cause | None = None
        self.detail: str | None = None
        self.attempts = 0
        self.next_try_ns: int | None = None
        self.changes = 0
        self.closed = False
        self.told: Counter[tuple[EventKind, str]] = Counter()
        self.stalls = 0
        self.param_changes = 0
        self._name = name
        self._clock = clock
        self._listener: Listener | None = None
        self._lock = threading.RLock()  # whoever is told may ask how it is
        self.since_ns = self._turned_ns = clock.now_ns()
        self._up = False
        self._last: tuple[EventKind, StreamState, Cause | None] | None = None
        # Of the frames
        self._epoch = self._frames = 0
        self._size: tuple[int, int] | None = None
        self._codec = ""
        self._breaks = 0
        self._pending: dict[EventKind, str] = {}
        self._next_change_ns = 0

    def listen(self, listener: Listener) -> None:
        """Tell events to somebody, in the thread in which they happen; must neither wait nor raise."""
        self._listener = listener

    def over(self) -> None:
        """Nothing more will be told. The listener is let go of: it knows the stream, and with it all that was the
        stream's, which would stay until Python's garbage collector finds the circle, minutes later."""
        with self._lock:
            self._listener = None

    def at(self, condition: Condition) -> None:
        """The source says how it is."""
        with self._lock:
            if self.closed:  # a reader that was left behind has come back
                return
            self.changes += 1
            self.attempts = condition.attempts
            pause_s = condition.pause_s
            self.next_try_ns = None if pause_s is None else self._clock.now_ns() + int(pause_s * 1e9)
            if condition.info is not None:
                self._codec = condition.info.codec or self._codec  # told as a change with its first frame
                self.info = replace(self.info, fps=condition.info.fps or self.info.fps)
            # Why it must connect again is not known to be cured yet.
            keeps = condition.state == "connecting" and condition.detail is None
            cause, detail = (self.cause, self.detail) if keeps else (condition.cause, condition.detail)
            self._turn(condition.state, cause, detail)

    def opened(self, info: StreamInfo) -> None:
        """The read loop opened the source. A feed is live with its first frame, anything else from now on."""
        with self._lock:
            self.info, self._codec = info, info.codec
            if not info.live and self.state == "connecting":
                self._turn("live")

    def stands_still(self, detail: str) -> bool:
        """A supervisor sees no frames; False unless it was ``live``."""
        with self._lock:
            if self.state != "live":
                return False
            self.stalls += 1
            self._turn("stalled", "stall", detail)
            return True

    def moves(self) -> bool:
        """A supervisor sees frames; False unless it was ``stalled``."""
        with self._lock:
            if self.state != "stalled":
                return False
            self._turn("live")
            return True

    def fails(self, detail: str, cause: Cause = "stage") -> None:
        """A frame came, and nothing could be made of it. A stream of which all frames fail is live, and no event tells
        of it, but whoever looks sees why it has no results."""
        with self._lock:
            if self.state == "live":
                self.cause, self.detail = cause, detail

    def works(self) -> None:
        """A result was made of a frame."""
        if self.cause in _FRUITLESS:
            with self._lock:
                if self.cause in _FRUITLESS and self.state == "live":
                    self.cause = self.detail = None

    def end(self, state: StreamState, detail: str | None = None, cause: Cause | None = None) -> None:
        """It is no longer read; the state is one of :data:`ENDED`."""
        with self._lock:
            if state == "stopped":  # was asked for: what it last suffered from is worth keeping
                cause, detail = self.cause, self.detail
            self.attempts, self.next_try_ns = 0, None
            self._turn(state, cause, detail, kind="ended")

    def arrived(self, read_ns: int, epoch: int, frames: int, size: tuple[int, int] | None, breaks: int) -> None:
        """A frame came: the ``frames``-th, of this size; ``breaks``: in the time stamps, so far."""
        self._frames, self._epoch = frames, epoch
        if self.state == "connecting":
            with self._lock:
                self._turn("live")
        if breaks != self._breaks:
            self._pending["discontinuity"] = f"the time stamps broke, {count(breaks, 'time')} so far"
            self._breaks = breaks
        if size is not None and (size != self._size or self._codec != self.info.codec):
            self._take_params(size)
        if self._pending and read_ns >= self._next_change_ns:
            self._next_change_ns = read_ns + EVENT_NS
            with self._lock:
                for kind, detail in self._pending.items():
                    self._tell(kind, None, detail)
                self._pending.clear()

    def _take_params(self, size: tuple[int, int]) -> None:
        before = self.info
        first, self._size = self._size is None, size
        self.info = replace(before, width=size[0], height=size[1], codec=self._codec)
        if not first:
            self.param_changes += 1
            self._pending["params_changed"] = f"{_params(before)}, now {_params(self.info)}"

    def _turn(
        self,
        state: StreamState,
        cause: Cause | None = None,
        detail: str | None = None,
        *,
        kind: EventKind | None = None,
    ) -> None:
        now_ns = self._clock.now_ns()
        if state != self.state and not (state in _TRYING and self.state in _TRYING):
            self.since_ns = now_ns
        self.state, self.cause, self.detail = state, cause, detail
        kind = kind or _KINDS.get(state)
        if kind is None or self._last == (kind, state, cause):
            return
        self._last = (kind, state, cause)
        self._tell(kind, cause, detail)
        if self._up != (kind == "up"):
            self._up, self._turned_ns = kind == "up", now_ns

    def _tell(self, kind: EventKind, cause: Cause | None, detail: str | None) -> None:
        self.told[kind, cause or ""] += 1
        if self._listener is None:
            return
        info = self.info
        self._listener(
            StreamEvent(
                self._name,
                kind,
                self.state,
                self._clock.wall_ns(),
                cause,
                None if detail is None else scrub(detail),
                max(0, self._clock.now_ns() - self._turned_ns) / 1e9,
                self._epoch,
                self._frames,
                info.width,
                info.height,
                info.codec,
            )
        )


_KINDS: Final[dict[str, EventKind]] = {
    "live": "up",
    "stalled": "stalled",
    "paused": "paused",
    **dict.fromkeys(_DOWN, "down"),
}


def _params(info: StreamInfo) -> str:
    return f"{info.width}x{info.height} {info.codec}".rstrip()
