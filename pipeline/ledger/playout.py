# SPDX-License-Identifier: Apache-2.0
"""Results of a stream with a playout delay: how many were ready too late to be published in their time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class PlayoutCount:
    """Written by the follow loop.

    Attributes:
        delay_ns: the stream's ``playout_delay_ms``; 0: it has none.
        results: how many had a time.
        late: of these, how many were ready after it, and left at once.
    """

    delay_ns: int = 0
    results: int = 0
    late: int = 0

    def __add__(self, later: PlayoutCount) -> PlayoutCount:
        """Of two lives; the delay is the later one's."""
        return PlayoutCount(later.delay_ns, self.results + later.results, self.late + later.late)

    def timed(self, behind_ns: int) -> None:
        """A result is ready ``behind_ns`` after its time, or before it (negative)."""
        self.results += 1
        self.late += behind_ns > 0

    def as_dict(self) -> dict[str, Any]:
        """``playout`` of a stream in ``report.json``; ``late_share``: None without any result."""
        share = round(self.late / self.results, 6) if self.results else None
        return {"delay_ms": self.delay_ns / 1e6, "results": self.results, "late": self.late, "late_share": share}
