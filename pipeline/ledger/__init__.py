# SPDX-License-Identifier: Apache-2.0
"""The frame ledger and the latency of every stage."""

from pipeline.events import StreamState
from pipeline.ledger.ledger import FROZEN_NS, Ledger, SinkLedger, SinkState, StreamLedger
from pipeline.ledger.lifecycle import ENDED, Lifecycle
from pipeline.ledger.stats import Distribution, Latency

__all__ = [
    "ENDED",
    "FROZEN_NS",
    "Distribution",
    "Latency",
    "Ledger",
    "Lifecycle",
    "SinkLedger",
    "SinkState",
    "StreamLedger",
    "StreamState",
]
