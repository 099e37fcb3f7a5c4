# SPDX-License-Identifier: Apache-2.0
"""What is simulated, and what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.lanes import Terms
from pipeline.plan.costs import StreamCosts


@dataclass(frozen=True, slots=True)
class Load:
    """One stream of a simulation.

    Attributes:
        name: its own.
        costs: of its frames.
        terms: how it is served.
        phase: when it begins, as a share of the interval between two frames that are processed.
        sinks_ms: CPU milliseconds of each sink per result.
    """

    name: str
    costs: StreamCosts
    terms: Terms
    phase: float
    sinks_ms: Mapping[str, float]


@dataclass(slots=True)
class Predicted:
    """What a stream comes to within the window.

    Attributes:
        wanted: frames that were due and are to be processed.
        done: of these, those that were.
        finished: frames that were processed within the window, whenever they were due.
        lost: by reason.
        latencies_ms: of the finished ones, from the reading of the packet until the last sink was done.
    """

    wanted: int = 0
    done: int = 0
    finished: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def missing(self) -> float:
        """Share of the wanted frames that were not processed."""
        return 1.0 - self.done / self.wanted if self.wanted else 0.0

    def percentile(self, percent: float) -> float | None:
        """Milliseconds, or None where nothing was finished."""
        return float(np.percentile(self.latencies_ms, percent)) if self.latencies_ms else None


@dataclass(slots=True)
class Outcome:
    """What a simulation came to.

    Attributes:
        seconds: length of the window.
        streams: by name.
        cores: busy on average within the window.
        use: cores by what they were busy with: decode, preprocess, network, sinks, other; over the whole simulation.
        device: share of the time for which a GPU was busy; 0 on a CPU.
        batches: how many of each size.
    """

    seconds: float
    streams: dict[str, Predicted]
    cores: float
    use: dict[str, float]
    device: float
    batches: dict[int, int]

    @property
    def fps(self) -> float:
        """Frames processed per second, all streams together."""
        return sum(stream.finished for stream in self.streams.values()) / self.seconds

    @property
    def wanted_fps(self) -> float:
        """Frames that are to be processed per second."""
        return sum(stream.wanted for stream in self.streams.values()) / self.seconds

    @property
    def latencies_ms(self) -> list[float]:
        """Of all streams."""
        return [value for stream in self.streams.values() for value in stream.latencies_ms]

    def percentile(self, percent: float) -> float | None:
        """Of all streams together, milliseconds."""
        values = self.latencies_ms
        return float(np.percentile(values, percent)) if values else None
