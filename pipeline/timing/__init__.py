# SPDX-License-Identifier: Apache-2.0
"""Time: the clock and the trace of a frame."""

from pipeline.timing.clock import (
    SYSTEM,
    Anchor,
    Clock,
    cpu_ns,
    now_ns,
    process_cpu_ns,
    rfc3339,
    thread_cpu_ns,
    wall_ns,
)
from pipeline.timing.lag import Lag
from pipeline.timing.pauses import GC_PAUSES, Pause, Pauses
from pipeline.timing.playout import PlayoutDelay
from pipeline.timing.trace import (
    AGE,
    EPOCH,
    FRAME,
    MOST_AGE_NS,
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
    published_ns,
    stage_times,
)

__all__ = [
    "AGE",
    "EPOCH",
    "FRAME",
    "GC_PAUSES",
    "MOST_AGE_NS",
    "PARTS",
    "PTS",
    "SLOTS",
    "STAGES",
    "SYSTEM",
    "WAITS",
    "Anchor",
    "Clock",
    "Lag",
    "Mark",
    "Pause",
    "Pauses",
    "PlayoutDelay",
    "cpu_ns",
    "elapsed",
    "ended_in",
    "new_trace",
    "now_ns",
    "part_times",
    "process_cpu_ns",
    "published_ns",
    "rfc3339",
    "stage_times",
    "thread_cpu_ns",
    "wall_ns",
]
