# SPDX-License-Identifier: Apache-2.0
"""What is simulated, and what comes of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pipeline.flow.lanes import Terms
from pipeline.plan.costs import StreamCosts
from pipeline.plan.window import Processed, Together

BUSY: Final = 0.9
"""A smaller share of the cores free while it was measured, or tried, is worth a word."""


@dataclass(frozen=True, slots=True)
class Load:
    """One stream of a simulation.

    Attributes:
        name: its own.
        costs: of its frames.
        terms: how it is served.
        phase: when it begins, as a share of the interval between two frames that are processed.
        sinks_ms: CPU milliseconds of each sink per result.
        isolated: it is read in a process of its own.
    """

    name: str
    costs: StreamCosts
    terms: Terms
    phase: float
    sinks_ms: Mapping[str, float]
    isolated: bool = False


@dataclass(slots=True)
class Predicted(Processed):
    """What a stream comes to within the window.

    Attributes:
        wanted: frames that were due and are to be processed.
        done: of these, those that were.
        lost: by reason.
    """

    wanted: int = 0
    done: int = 0
    lost: Counter[str] = field(default_factory=Counter)

    @property
    def missing(self) -> float:
        """Share of the wanted frames that were not processed."""
        return 1.0 - self.done / self.wanted if self.wanted else 0.0


@dataclass(slots=True)
class Outcome(Together[Predicted]):
    """What a simulation came to.

    Attributes:
        cores: busy on average within the window.
        use: cores by what they were busy with: decode, preprocess, network, sinks, other; over the whole simulation.
        device: share of the time for which a GPU was busy; 0 on a CPU.
        batches: how many of each size.
    """

    cores: float
    use: dict[str, float]
    device: float
    batches: dict[int, int]

    @property
    def wanted_fps(self) -> float:
        """Frames that are to be processed per second."""
        return sum(stream.wanted for stream in self.streams.values()) / self.seconds


def phases(count: int) -> list[float]:
    """When each stream begins, as a share of its interval: cameras know nothing of each other. The same every time."""
    rng = random.Random(0)
    return [rng.random() for _ in range(count)]
