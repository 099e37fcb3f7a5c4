# SPDX-License-Identifier: Apache-2.0
"""How much may wait for the sinks of the daemon. None of them ever holds the flow up."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from pipeline.flow.stream import FlowOptions
from pipeline.protocols import PlacedSink, Sink

log = logging.getLogger("pipeline")

RECORDS_WAITING, RECORDS_WAITING_PER_STREAM = 256, 32
PICTURES_WAITING = 16
"""Results that may wait for one sink: records at least so many, and so many per stream, so that a disk that takes two
seconds over something costs no stream of 15 a second a result. Those with pictures are large: 16 of 1080p are 50 MB."""


def tell_where(sinks: Sequence[Sink]) -> None:
    """Log where each sink writes: its name may be no more than a kind and a number."""
    for sink in sinks:
        if isinstance(sink, PlacedSink):
            log.info("sink %s writes %s", sink.name, sink.path)


def with_outlets(options: FlowOptions, sinks: Sequence[Sink], streams: int) -> FlowOptions:
    """The same options with the outlets of a daemon of so many streams."""
    pictures = any(sink.wants_pictures for sink in sinks)
    records = max(RECORDS_WAITING, RECORDS_WAITING_PER_STREAM * streams)
    return replace(options, outlet_policy="freshest", outlet_capacity=PICTURES_WAITING if pictures else records)
