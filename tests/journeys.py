# SPDX-License-Identifier: Apache-2.0
"""Journeys of frames that never were: as usual, but for what a test wants to take longer."""

from __future__ import annotations

from pipeline.ledger import BatchRun, Ledger, SinkLedger, StreamLedger, Write
from pipeline.timing import FRAME, PARTS, Mark, new_trace

MS = 1_000_000
USUAL_MS = {
    "decode": 4, "decoder": 0, "preprocess": 1, "scheduler": 2, "batch": 3, "infer": 30, "postprocess": 2, "reorder": 1,
    "follow": 1, "playout": 0, "outlet": 1, "sink": 1,
}  # fmt: skip
EVERY_MS = 100
BY_ITS_READER = [mark for mark in Mark if mark not in (Mark.MAKE, Mark.MADE, Mark.PLAYED)]
"""The marks of a frame that its reader prepared, of a stream without a playout delay."""


class World:
    """Frames of some streams, each in a batch of its own unless told otherwise, 100 ms apart."""

    def __init__(self, *streams: str, budget_ms: int | None = None, live: bool = True) -> None:
        self.ledger = Ledger()
        self.ledger.begin(MS)
        self.ledger.sinks = {name: SinkLedger(name) for name in ("jsonl", "video")}
        self.count = dict.fromkeys(streams, 0)
        for name in streams:
            budget_ns = None if budget_ms is None else budget_ms * MS
            self.ledger.add(StreamLedger(name, live=live, budget_ns=budget_ns))

    def trace(self, stream: str, **parts_ms: float) -> list[int]:
        """A frame that takes as long as usual, but for ``parts_ms``."""
        number = self.count[stream]
        self.count[stream] += 1
        trace = new_trace()
        at = (1000 + EVERY_MS * number) * MS
        trace[Mark.READ], trace[FRAME] = at, number
        given = set()
        for mark in BY_ITS_READER[1:]:
            part = PARTS[mark]
            if part not in given:  # a wait of two intervals is in the first of them
                at += round((USUAL_MS | parts_ms)[part] * MS)
                given.add(part)
            trace[mark] = at
        return trace

    def batch(
        self,
        trace: list[int],
        items: int = 2,
        *,
        awaited: str = "",
        complete_ns: int = 0,
        number: int = 7,
        worker: str = "detect:0",
    ) -> None:
        """The batch that a frame was in."""
        run = BatchRun(worker, number, items, trace[Mark.INFER], trace[Mark.INFERRED], trace[Mark.PARSED])
        self.ledger.batch(run._replace(awaited=awaited, complete_ns=complete_ns))

    def frame(self, stream: str, **parts_ms: float) -> list[int]:
        """It is finished, and its batch and its write are known."""
        trace = self.trace(stream, **parts_ms)
        self.batch(trace)
        self.finish(stream, trace)
        return trace

    def finish(self, stream: str, trace: list[int], sink: str = "jsonl") -> None:
        write = Write(trace[Mark.SINK], trace[Mark.DONE], stream, trace[FRAME])
        self.ledger.sinks[sink].writes.add(write)
        account = self.ledger.streams[stream]
        account.decoded += 1
        account.published(trace)
        account.finished(trace)

    def as_usual(self, stream: str, frames: int = 100) -> None:
        for _ in range(frames):
            self.frame(stream)

    def verdicts(self, stream: str) -> list[str]:
        return [one.reason.verdict for one in self.ledger.streams[stream].times.lateness().newest]

    def verdict(self, stream: str) -> str:
        (verdict,) = self.verdicts(stream)
        return verdict
