# SPDX-License-Identifier: Apache-2.0
"""Results of a stream with a playout delay: how many were ready too late to be published in their time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.timing import PlayoutDelay


@dataclass(slots=True)
class PlayoutCount:
    """Written by the follow loop.

    Attributes:
        delay: the stream's; None: it has none.
        results: how many had a time.
        late: of these, how many were ready after it, and left at once.
    """

    delay: PlayoutDelay | None = None
    results: int = 0
    late: int = 0

    def __add__(self, later: PlayoutCount) -> PlayoutCount:
        """Of two lives; the delay is the later one's."""
        return PlayoutCount(later.delay, self.results + later.results, self.late + later.late)

    def due_ns(self, place_ns: int, ready_ns: int) -> int:
        """When a result leaves that is ready at ``ready_ns``, see :meth:`PlayoutDelay.due_ns`; it is counted. 0 where
        there is no delay."""
        if self.delay is None:
            return 0
        due_ns = self.delay.due_ns(place_ns, ready_ns)
        self.results += 1
        self.late += ready_ns > due_ns
        return due_ns

    def as_dict(self) -> dict[str, Any]:
        """``playout`` of a stream in ``report.json``, empty where it has none; ``late_share``: None without any result,
        ``delay_ms`` is that of the moment."""
        if self.delay is None:
            return {}
        return {
            "delay_ms": round(self.delay.delay_ns / 1e6, 3),
            "percentile": self.delay.percentile,
            "results": self.results,
            "late": self.late,
            "late_share": round(self.late / self.results, 6) if self.results else None,
        }
