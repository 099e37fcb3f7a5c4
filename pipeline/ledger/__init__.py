# SPDX-License-Identifier: Apache-2.0
"""The frame ledger and the latency of every stage."""

from pipeline.events import StreamState
from pipeline.ledger.blocks import SERIES
from pipeline.ledger.histograms import Snapshot
from pipeline.ledger.holding import held
from pipeline.ledger.journal import LATELY_NS, BatchRun, Journal, Write, batch_times
from pipeline.ledger.late import BLAMED, Late
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.lifecycle import ENDED
from pipeline.ledger.sinks import SinkLedger, SinkState
from pipeline.ledger.stats import Latency, of_whole
from pipeline.ledger.streams import FROZEN_NS, StreamLedger
from pipeline.ledger.times import StreamTimes

__all__ = [
    "BLAMED",
    "ENDED",
    "FROZEN_NS",
    "LATELY_NS",
    "SERIES",
    "BatchRun",
    "Journal",
    "Late",
    "Latency",
    "Ledger",
    "SinkLedger",
    "SinkState",
    "Snapshot",
    "StreamLedger",
    "StreamState",
    "StreamTimes",
    "Write",
    "batch_times",
    "held",
    "of_whole",
]
