# SPDX-License-Identifier: Apache-2.0
"""Why a frame was late, in one line, and what ran beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.ledger.causes import Case, as_time, cause, overlap
from pipeline.ledger.journal import BatchRun, Journal
from pipeline.timing import WAITS, Mark, Pause


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a frame was late.

    Attributes:
        verdict: one line, such as ``queue +83 ms: batch 1412 waited for lobby``.
        batch: the one that the frame was in, and ``neighbours``: others that overlap its time in the detector.
        sink: the one that finished last.
        pause: the longest collection of garbage on its way.
    """

    verdict: str
    batch: BatchRun | None = None
    neighbours: tuple[BatchRun, ...] = ()
    sink: str | None = None
    pause: Pause | None = None

    def as_dict(self) -> dict[str, Any]:
        """``beside`` of a slow frame in ``report.json``; what there was none of is left out."""
        found: dict[str, Any] = {}
        if self.batch is not None:
            found["batch"] = _told(self.batch)
        if self.neighbours:
            found["neighbours"] = [_told(batch) for batch in self.neighbours]
        if self.sink is not None:
            found["sink"] = self.sink
        if self.pause is not None:
            took_ms = round((self.pause.ended_ns - self.pause.began_ns) / 1e6, 3)
            found["pause"] = {"generation": self.pause.generation, "took_ms": took_ms}
        return found


def explain(
    stream: str, trace: list[int], part: str, excess_ns: int, journal: Journal, *, as_usual: bool = False
) -> Reason:
    """The reason of a late frame of ``stream`` of which ``part`` took ``excess_ns`` too long.

    ``journal`` holds what overlaps its way. ``as_usual``: the part is the longest, but takes so long every time.
    """
    case = Case(stream, trace, part, excess_ns, journal)
    stage = "queue" if part in WAITS else part
    if as_usual:
        verdict = f"{stage} {as_time(excess_ns)}, as usual: the budget is less than a usual frame takes"
    else:
        known = cause(case, part)
        verdict = f"{stage} +{as_time(excess_ns)}{': ' if known else ''}{known}"
    began_ns, ended_ns = trace[Mark.READ], max(trace[: len(Mark)])
    pauses = [pause for pause in journal.pauses if overlap(pause.began_ns, pause.ended_ns, began_ns, ended_ns)]
    longest = max(pauses, key=lambda pause: pause.ended_ns - pause.began_ns, default=None)
    return Reason(verdict, case.batch, tuple(case.neighbours()), case.sink, longest)


def _told(batch: BatchRun) -> dict[str, Any]:
    took_ms = round((batch.parsed_ns - batch.began_ns) / 1e6, 3)
    return {"number": batch.number, "items": batch.items, "worker": batch.worker, "took_ms": took_ms}
