# SPDX-License-Identifier: Apache-2.0
"""What is kept of a proof: every frame of the window, and each once, whatever a ledger remembers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.plan import journeys
from pipeline.plan.journeys import Journeys
from pipeline.timing import FRAME, PTS, Mark, new_trace

MS = 1_000_000


def trace(number: int, read_ms: int, took_ms: int, *, followed: bool = True) -> list[int]:
    made = new_trace()
    made[FRAME], made[Mark.READ], made[PTS] = number, read_ms * MS, (5000 + 10 * number) * MS
    made[Mark.FOLLOWED if followed else Mark.PREPARED] = (read_ms + took_ms) * MS
    return made


class Remembering:
    """A ledger that remembers the newest three frames only."""

    def __init__(self) -> None:
        self.traces: list[list[int]] = []

    def journal(self, since_ns: int) -> Any:
        newest = [each for each in self.traces[-3:] if max(each[: len(Mark)]) > since_ns]
        return SimpleNamespace(journeys={"gate": newest})


def test_every_frame_of_the_window_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, now_ns = Remembering(), 0
    monkeypatch.setattr(journeys, "now_ns", lambda: now_ns)
    seen = Journeys(100 * MS)
    for number in range(10):
        ledger.traces.append(trace(number, 90 + 10 * number, 5 + number, followed=number != 4))
        if number % 2:
            now_ns = (100 + 10 * number) * MS
            seen.collect(cast("Any", ledger))
    ledger.traces.append(trace(10, 190, 30))
    seen.collect(cast("Any", ledger), 200 * MS)
    # The first ended before it began, the fifth was lost, the last ends after it.
    assert seen.latencies_ms("gate") == [6, 7, 8, 10, 11, 12, 13, 14]
    assert seen.latencies_ms("yard") == []
    # From the second, which was read as it began, to the last that was read in it, whatever became of it.
    assert seen.played_s("gate") == pytest.approx(0.09)
    assert seen.played_s("yard") == 0.0
