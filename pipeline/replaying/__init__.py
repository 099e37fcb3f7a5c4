# SPDX-License-Identifier: Apache-2.0
"""Recorded files through the same flow as live feeds, losslessly."""

from pipeline.replaying.arrivals import ArrivalsReplay
from pipeline.replaying.options import ReplayOptions
from pipeline.replaying.results import replay
from pipeline.replaying.run import Replay

__all__ = ["ArrivalsReplay", "Replay", "ReplayOptions", "replay"]
