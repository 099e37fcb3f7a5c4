# SPDX-License-Identifier: Apache-2.0
"""What streams come to within a window of time, whether that was predicted or measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np


@dataclass(slots=True)
class Processed:
    """Of one stream.

    Attributes:
        finished: frames that were processed within the window, whenever they were due.
        latencies_ms: of these, from the reading of the packet until the last sink was done.
    """

    finished: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    def percentile(self, percent: float) -> float | None:
        """Milliseconds, or None where nothing was finished."""
        return _percentile(self.latencies_ms, percent)


S = TypeVar("S", bound=Processed)


@dataclass(slots=True)
class Together(Generic[S]):
    """Of all streams.

    Attributes:
        seconds: length of the window.
        streams: by name.
    """

    seconds: float
    streams: dict[str, S]

    @property
    def fps(self) -> float:
        """Frames processed per second."""
        return sum(stream.finished for stream in self.streams.values()) / self.seconds

    @property
    def latencies_ms(self) -> list[float]:
        """Of all streams."""
        return [value for stream in self.streams.values() for value in stream.latencies_ms]

    def percentile(self, percent: float) -> float | None:
        """Of all streams together, milliseconds; None where nothing was finished."""
        return _percentile(self.latencies_ms, percent)


def _percentile(values: list[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None
