# SPDX-License-Identifier: Apache-2.0
"""All that was measured of one stream up to a moment: looked up once, for the stream's figures and for those of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.ledger.blocks import Tally
from pipeline.ledger.course import Course
from pipeline.ledger.stats import Distributions, Latency
from pipeline.measures import Histogram


@dataclass(frozen=True)
class Measured:
    """What a stream has: nobody changes it, or not for as long as the stream is held.

    Attributes:
        latency: the distributions so far; empty once settled.
        course: how it went over time; empty once settled.
        windows: what finished lately, by seconds looked back on; empty where there is no lately.
        figures, distributions: those of ``latency``, as :func:`pipeline.ledger.stats.of_latencies` has them.
        lately: those of ``windows``, as :func:`pipeline.ledger.stats.of_tallies` has them.
        nominal_ns: how often a frame is expected, or None.
        exits: jitter by part of the way, as :meth:`pipeline.ledger.exits.Exits.as_dicts` has it.
        corrected: the end-to-end times corrected for coordinated omission by the interval between two frames that was
            expected: the measured median. None where nothing is expected at any time: frames that are read as fast as
            possible, or fewer than two.
        end_to_end_corrected: STATS of these.
        dropped_after: STATS of the journeys of dropped frames.
        capture_to_result: STATS of the times from the camera's lens to the result.
    """

    latency: Latency
    course: Course
    windows: dict[int, Tally]
    figures: dict[str, Any]
    distributions: Distributions
    lately: dict[int, dict[str, Any]]
    nominal_ns: int | None
    exits: dict[str, Any]
    corrected: Histogram | None
    end_to_end_corrected: dict[str, Any] | None
    dropped_after: dict[str, Any] | None
    capture_to_result: dict[str, Any] | None
