# SPDX-License-Identifier: Apache-2.0
"""The frame ledger and the latency of every stage.

- **Counts**: ``ledger`` is the account of a run, ``streams`` of a stream (its ``balance`` of frames, its
  ``lifecycle``), ``sinks`` of a sink; ``folding`` and ``counters`` add earlier lives up.
- **Times**: ``times`` takes the traces of a stream apart, in ``blocks``: into ``histograms`` (``stats`` tells their
  figures), ``windows`` (lately), ``course`` (over the run) and ``exits`` (jitter of each part of the way).
  ``arrivals``, ``drift`` and ``capture`` are about its camera, ``playout`` about its delay. ``measured`` is all of it
  at one moment, ``shape`` what a report keeps of it; ``holding`` asks many streams at once.
- **Why**: ``journal`` remembers what happened lately, ``late`` finds late frames and what to blame, ``why`` and
  ``causes`` what ran beside; ``whole`` keeps journeys for a file.
- **Cost**: ``busy`` is the time of the workers, ``cost`` what measuring takes.
"""

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
