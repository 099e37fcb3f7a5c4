# SPDX-License-Identifier: Apache-2.0
"""What a run was given, and when: recorded as it comes, and played again with the same timing (design/arrivals.md)."""

from pipeline.arrivals.comparing import Comparison, Decisions
from pipeline.arrivals.feed import Arrivals, FrameLog
from pipeline.arrivals.play_clock import VIRTUAL_NS, PlayClock, RealTime, Virtual
from pipeline.arrivals.reading import Recording
from pipeline.arrivals.recorder import LIMIT_MB, Recorder
from pipeline.arrivals.services import Service, ServiceLog, ServiceTimes
from pipeline.arrivals.stream_recorder import StreamRecorder
from pipeline.arrivals.tape import Tape
from pipeline.arrivals.watching import told_to, watched, watching

__all__ = [
    "LIMIT_MB",
    "VIRTUAL_NS",
    "Arrivals",
    "Comparison",
    "Decisions",
    "FrameLog",
    "PlayClock",
    "RealTime",
    "Recorder",
    "Recording",
    "Service",
    "ServiceLog",
    "ServiceTimes",
    "StreamRecorder",
    "Tape",
    "Virtual",
    "told_to",
    "watched",
    "watching",
]
