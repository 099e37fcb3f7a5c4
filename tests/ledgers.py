# SPDX-License-Identifier: Apache-2.0
"""Ledgers of runs that never were, with round numbers."""

from __future__ import annotations

from typing import Any

from pipeline.ledger import BatchRun, Ledger, SinkLedger, StreamLedger
from pipeline.timing import Mark, new_trace

MS = 1_000_000
_AT_MS = (0, 1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10)
_PASSED = [mark for mark in Mark if mark != Mark.PLAYED]  # there is no playout delay
FACTS: dict[str, Any] = {
    "command": "replay",
    "model": {
        "path": "m.pt", "sha256": "ab", "adapter": "rows", "input": [96, 128], "device": "cpu", "precision": "fp32",
        "max_batch": 4, "workers": 2,
    },
    "startup_s": {"import": 1.0, "load": 0.1, "probe": 0.1, "warm": 0.2},
}  # fmt: skip


def whole_way(done_ns: int, took_ns: int) -> list[int]:
    """The trace of a frame of which nothing but its beginning and its end is known."""
    trace = new_trace()
    trace[Mark.READ], trace[Mark.DONE] = done_ns - took_ns, done_ns
    return trace


def lose(account: StreamLedger, reason: str, frames: int) -> None:
    """Frames that were dropped in the network."""
    for _ in range(frames):
        trace = new_trace()
        for mark in range(Mark.INFERRED + 1):
            trace[mark] = (1 + mark) * MS
        account.lost(reason, trace)


def a_run(*names: str, frames: int = 5) -> Ledger:
    """Frames that take 10 ms, 1 ms from stage to stage, 20 ms apart."""
    ledger = Ledger()
    ledger.begin(1000 * MS)
    for name in names:
        account = ledger.streams[name] = StreamLedger(name)
        account.opened_ns, account.state = 1000 * MS, "finished"
        for index in range(frames):
            trace = new_trace()
            for mark, at_ms in zip(_PASSED, _AT_MS, strict=True):
                trace[mark] = (1000 + 20 * index + at_ms) * MS
            account.decoded += 1
            account.published(trace, 2)
            account.finished(trace)
        if frames:
            began_ns = (1000 + _AT_MS[Mark.INFER]) * MS
            ledger.batch(BatchRun("detect:0", 1, frames, began_ns, began_ns + MS, began_ns + 2 * MS))
    ledger.sinks["jsonl"] = SinkLedger("jsonl", frames * len(names), frames * len(names))
    ledger.end(1200 * MS)
    return ledger
