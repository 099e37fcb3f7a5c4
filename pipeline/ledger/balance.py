# SPDX-License-Identifier: Apache-2.0
"""What became of a stream's frames at one moment."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple


class Balance(NamedTuple):
    """``decoded = processed + dropped + decimated + in_flight`` at one moment.

    Attributes:
        lost: dropped frames by reason, and by the stage or place of waiting where it happened.
    """

    decoded: int
    processed: int
    decimated: int
    lost: Counter[tuple[str, str]]

    @property
    def dropped(self) -> Counter[str]:
        """Dropped frames by reason."""
        by_reason: Counter[str] = Counter()
        for (reason, _), frames in self.lost.items():
            by_reason[reason] += frames
        return by_reason

    @property
    def in_flight(self) -> int:
        """Frames between the decoder and their end."""
        return self.decoded - self.processed - self.decimated - self.lost.total()

    def as_dict(self) -> dict[str, Any]:
        """The counts of ``report.json``; ``dropped_in``: ``{place: {reason: frames}}``."""
        places: dict[str, dict[str, int]] = {}
        for (reason, place), frames in sorted(self.lost.items()):
            places.setdefault(place, {})[reason] = frames
        return {
            "decoded": self.decoded,
            "processed": self.processed,
            "dropped": dict(sorted(self.dropped.items())),
            "dropped_in": places,
            "decimated": self.decimated,
            "in_flight": self.in_flight,
        }
