# SPDX-License-Identifier: Apache-2.0
"""What is told of a stream beside its results: the condition that its source is in, and events for sinks and metrics.

All names are of closed sets, so that they can be metric labels and be switched on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pipeline.errors import Cause
from pipeline.frame import StreamInfo

StreamState = Literal[
    "connecting", "live", "stalled", "backoff", "auth_failed", "failed", "paused", "finished", "truncated", "stopped"
]

_IN_WORDS: Final = {"backoff": "reconnecting", "auth_failed": "not let in"}


def state_in_words(state: str) -> str:
    """For people; programs are told the contract's name."""
    return _IN_WORDS.get(state, state.replace("_", " "))


EventKind = Literal["up", "down", "stalled", "paused", "ended", "params_changed", "discontinuity"]
"""``up``: frames come. ``down``: the source failed, or is down for another cause than before. ``stalled``: it neither
fails nor delivers. ``paused``: somebody holds it. ``ended``: it is read no more. ``params_changed``: size or codec are
others. ``discontinuity``: its time stamps broke."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How a supervised source says that it is.

    Attributes:
        state: one of the contract's names.
        detail: one line for people, free of secrets.
        cause: why it is not live.
        attempts: connections tried since the last frame.
        pause_s: seconds until the next one.
        info: with ``live``, what this connection delivers.
    """

    state: StreamState
    detail: str | None = None
    cause: Cause | None = None
    attempts: int = 0
    pause_s: float | None = None
    info: StreamInfo | None = None


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """Something happened to a stream.

    Attributes:
        stream: its name.
        kind: what happened.
        state: the stream's state from then on.
        wall_ns: when, in nanoseconds since the epoch (UTC).
        cause: why, where there is a cause.
        detail: one line for people, free of secrets.
        after_s: seconds since the stream last came up or ceased to be up; of ``up`` the length of the outage (or of the
            start), of ``down`` and ``stalled`` for how long it had been up, if it was.
        epoch: see :class:`pipeline.frame.Capture`; of the last frame before.
        frame: frames that the decoder had delivered.
        width, height: source pixels; 0 where not known.
        codec: canonical name, or empty.
    """

    stream: str
    kind: EventKind
    state: StreamState
    wall_ns: int
    cause: Cause | None = None
    detail: str | None = None
    after_s: float = 0.0
    epoch: int = 0
    frame: int = 0
    width: int = 0
    height: int = 0
    codec: str = ""
