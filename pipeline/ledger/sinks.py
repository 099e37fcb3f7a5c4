# SPDX-License-Identifier: Apache-2.0
"""The account of one sink."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.ledger.journal import Lately, Write

SinkState = Literal["ok", "degraded", "failed"]


@dataclass(slots=True)
class SinkLedger:
    """What one sink was given and what became of it. Lost is counted by reason.

    Attributes:
        received: results that were meant for it.
        written: results that it kept.
        events_received, events_written, events_lost: the same for events of streams, where the sink wants them.
        faults: times that a stream could not be begun or ended, or the sink not closed: results that counted as
            written may be missing then.
        busy_ns: time spent in writing results and in finishing streams.
        path: where it writes, for whoever watches; a report does not say it, as its folder may be moved.
        removed: asks the sink how many files it removed to keep to its limits; says None for a sink that has none.
        writes: the newest.
        state: ``ok``; ``degraded`` (the last write failed, or it has not caught up since it lost results; it is tried
            again); ``failed`` (detached for good).
    """

    name: str
    received: int = 0
    written: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    events_received: int = 0
    events_written: int = 0
    events_lost: int = 0
    faults: int = 0
    state: SinkState = "ok"
    error: str | None = None
    path: str = ""
    busy_ns: int = 0
    removed: Callable[[], int | None] = field(default=lambda: None, repr=False, compare=False)
    writes: Lately[Write] = field(default_factory=Lately, repr=False, compare=False)

    @property
    def lost_data(self) -> bool:
        """Whether anything that was meant for it is, or may be, missing."""
        return bool(self.lost or self.events_lost or self.faults) or self.state == "failed"

    @property
    def served(self) -> bool:
        """It is done with everything that was meant for it."""
        events = self.events_received == self.events_written + self.events_lost
        return events and self.received == self.written + self.lost.total()

    def as_dict(self) -> dict[str, Any]:
        """This sink's part of ``report.json``."""
        removed = self.removed()
        return {
            "received": self.received,
            "written": self.written,
            "lost": dict(sorted(self.lost.items())),
            "events": {
                "received": self.events_received,
                "written": self.events_written,
                "lost": self.events_lost,
            },
            "faults": self.faults,
            **({} if removed is None else {"segments_removed": removed}),
            "state": self.state,
            "error": self.error,
        }
