# SPDX-License-Identifier: Apache-2.0
"""The frame ledger and the latency of every stage."""

from pipeline.ledger.ledger import ENDED, FROZEN_NS, Ledger, SinkLedger, SinkState, StreamLedger, StreamState
from pipeline.ledger.stats import Distribution, Latency

__all__ = [
    "ENDED",
    "FROZEN_NS",
    "Distribution",
    "Latency",
    "Ledger",
    "SinkLedger",
    "SinkState",
    "StreamLedger",
    "StreamState",
]
