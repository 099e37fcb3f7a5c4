# SPDX-License-Identifier: Apache-2.0
"""Time: the clock, the trace of a frame, distributions and jitter."""

from pipeline.timing.clock import SYSTEM, Clock, SystemClock, cpu_ns, now_ns, rfc3339, thread_cpu_ns, wall_ns
from pipeline.timing.histogram import Histogram, bucket_of, bucket_start
from pipeline.timing.jitter import DurationJitter, IntervalJitter, TransitJitter
from pipeline.timing.pauses import GC_PAUSES, Pause
from pipeline.timing.trace import (
    EPOCH,
    FRAME,
    PARTS,
    PTS,
    SLOTS,
    STAGES,
    WAITS,
    Mark,
    elapsed,
    ended_in,
    new_trace,
    part_times,
    stage_times,
)

__all__ = [
    "EPOCH",
    "FRAME",
    "GC_PAUSES",
    "PARTS",
    "PTS",
    "SLOTS",
    "STAGES",
    "SYSTEM",
    "WAITS",
    "Clock",
    "DurationJitter",
    "Histogram",
    "IntervalJitter",
    "Mark",
    "Pause",
    "SystemClock",
    "TransitJitter",
    "bucket_of",
    "bucket_start",
    "cpu_ns",
    "elapsed",
    "ended_in",
    "new_trace",
    "now_ns",
    "part_times",
    "rfc3339",
    "stage_times",
    "thread_cpu_ns",
    "wall_ns",
]
