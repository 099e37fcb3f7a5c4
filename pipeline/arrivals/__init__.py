# SPDX-License-Identifier: Apache-2.0
"""What a run was given, and when: recorded as it comes, and played again with the same timing (design/arrivals.md)."""

from pipeline.arrivals.about import settings_of
from pipeline.arrivals.recorder import LIMIT_MB, Recorder
from pipeline.arrivals.services import Service, ServiceTimes
from pipeline.arrivals.stream_recorder import StreamRecorder
from pipeline.arrivals.watching import told_to, watched, watching

__all__ = [
    "LIMIT_MB",
    "Recorder",
    "Service",
    "ServiceTimes",
    "StreamRecorder",
    "settings_of",
    "told_to",
    "watched",
    "watching",
]
