# SPDX-License-Identifier: Apache-2.0
"""All that was measured of one stream up to a moment: copied once, for the stream's figures and for those of all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pipeline.ledger.blocks import Tally
from pipeline.ledger.course import Course
from pipeline.ledger.stats import Latency
from pipeline.measures import Histogram


@dataclass(frozen=True)
class Measured:
    """Copies, which nobody changes any more.

    Attributes:
        latency: the distributions so far; empty once settled.
        course: how it went over time; likewise.
        windows: what finished lately, by seconds looked back on; empty where there is no lately.
        nominal_ns: how often a frame is expected, or None.
    """

    latency: Latency
    course: Course
    windows: dict[int, Tally]
    nominal_ns: int | None

    @cached_property
    def corrected(self) -> Histogram | None:
        """The end-to-end times corrected for coordinated omission by the interval between two frames that was expected:
        the measured median. None where nothing is expected at any time: frames that are read as fast as possible, or
        fewer than two."""
        histogram = self.latency.end_to_end.histogram
        return histogram.corrected(self.nominal_ns) if self.nominal_ns and histogram.count else None
