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

    def timed(self, behind_ns: int) -> None:
        """A result is ready ``behind_ns`` after its time, or before it (negative)."""
        self.results += 1
        self.late += behind_ns > 0

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
