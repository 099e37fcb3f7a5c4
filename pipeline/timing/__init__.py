# SPDX-License-Identifier: Apache-2.0
"""Time: the clock, the trace of a frame, distributions and jitter."""

from pipeline.timing.clock import SYSTEM, Clock, SystemClock, cpu_ns, now_ns, rfc3339, wall_ns
from pipeline.timing.histogram import Histogram
from pipeline.timing.jitter import DurationJitter, IntervalJitter, TransitJitter
from pipeline.timing.trace import STAGES, Mark, elapsed, new_trace, stage_times

__all__ = [
    "STAGES",
    "SYSTEM",
    "Clock",
    "DurationJitter",
    "Histogram",
    "IntervalJitter",
    "Mark",
    "SystemClock",
    "TransitJitter",
    "cpu_ns",
    "elapsed",
    "new_trace",
    "now_ns",
    "rfc3339",
    "stage_times",
    "wall_ns",
]
