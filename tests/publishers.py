# SPDX-License-Identifier: Apache-2.0
"""The follow loop's body in front of a list, and frames for it."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.complaints import Complaints
from pipeline.flow.outlet import Delivery, Event
from pipeline.flow.publishing import Opened, Publisher
from pipeline.flow.stream import Stream
from pipeline.frame import Frame, Picture, Result, StreamInfo, StreamKey
from pipeline.ledger import Ledger, StreamLedger
from pipeline.testing import ManualClock, ScriptedSource
from pipeline.timing import Mark, new_trace


class Bench:
    """A publisher in front of a list."""

    def __init__(self, outlets: int = 1) -> None:
        self.clock = ManualClock(1000)
        self.events: list[Event] = []
        self.ledger = Ledger()
        self.complaints = Complaints(logging.getLogger("pipeline"), self.clock)
        self.publisher = Publisher(self.events.append, outlets, self.ledger, self.clock.now_ns, self.complaints)
        self.handle = self.publisher.handle

    def stream(self, name: str = "a", generation: int = 1, **options: Any) -> Stream:
        stream = Stream(ScriptedSource(()), [], StreamLedger(name), **options)
        stream.key = StreamKey(name, generation)
        self.ledger.add(stream.account)
        self.handle(Opened(stream, StreamInfo(name)))
        return stream

    def results(self) -> list[Result]:
        return [event.result for event in self.events if isinstance(event, Delivery)]

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


def frame(stream: Stream, sequence: int, index: int | None = None, picture: Picture | None = None) -> Frame:
    trace = new_trace()
    trace[Mark.READ] = 1
    index = sequence if index is None else index
    wall_ns = 1_700_000_000_000_000_000 + index
    return Frame(stream.key, sequence, index, index / 25, wall_ns, 3, 64, 48, picture, trace, {0: "thing"})
