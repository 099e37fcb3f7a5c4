# SPDX-License-Identifier: Apache-2.0
"""What else ran while a frame was late, by what overlaps the part of its way that took too long.

What is named explains at least half of the excess, else it is not named. A pause of the garbage collector comes first:
it holds up every thread. Then, by the part:

===========  =========================================================================================================
decoder      nothing was read meanwhile, the reader was held up by the stream's own frames, or frames that are shown
             before it came after it (B-frames)
scheduler    a batch kept the worker, several did, or ``follow`` did not take what they had found
batch        the stream that came last, or the batch before it in the same worker
infer        more frames in the batch than usual
reorder      a frame before it, ``follow`` at work for another frame, or a sink that held ``follow`` up
outlet       what the sink wrote before
sink         the sink that was the last to finish
===========  =========================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

from pipeline.figures import count
from pipeline.ledger.journal import BatchRun, Journal, Write, ended_after
from pipeline.timing import FRAME, PARTS, Mark

BIGGER: Final = 1.5
"""A batch of so many times the usual number of frames is a big one."""
NEIGHBOURS: Final = 4

_READ, _PREPARE, _QUEUED = int(Mark.READ), int(Mark.PREPARE), int(Mark.QUEUED)


class Case:
    """A late frame beside everything that ran on its way.

    Attributes:
        began_ns, ended_ns: when it was in the part that took too long.
        batch: the one that it was in.
        sink: the one that finished last.
    """

    def __init__(self, stream: str, trace: list[int], part: str, excess_ns: int, journal: Journal) -> None:
        self.stream = stream
        self.trace = trace
        self.excess_ns = excess_ns
        self.journal = journal
        self.began_ns, self.ended_ns = _interval(trace, part)
        self.batch = journal.batch_of(trace)
        self.sink = journal.sink_of(stream, trace)

    def batches(self) -> Iterator[BatchRun]:
        """The other batches that were under way while it was in the part."""
        for batch in ended_after(self.journal.batches, self.began_ns):
            if batch.began_ns < self.ended_ns and batch is not self.batch:
                yield batch

    def writes(self, sink: str) -> Iterator[Write]:
        """What the sink wrote meanwhile."""
        for write in ended_after(self.journal.writes[sink], self.began_ns):
            if write.began_ns < self.ended_ns:
                yield write

    def neighbours(self) -> list[BatchRun]:
        """Of the other batches those that overlap its time from the lane to the detections, longest overlap first."""
        began_ns, ended_ns = self.trace[Mark.PREPARED] or self.trace[Mark.QUEUED], self.trace[Mark.PARSED]
        found = [
            (overlap(each.began_ns, each.parsed_ns, began_ns, ended_ns), each)
            for each in ended_after(self.journal.batches, began_ns)
            if each.began_ns < ended_ns and each is not self.batch
        ]
        return [each for _, each in sorted(found, key=lambda one: -one[0])][:NEIGHBOURS]

    def others(self) -> Iterator[tuple[str, list[int]]]:
        """All other frames, with their streams."""
        for stream, journeys in self.journal.journeys.items():
            for trace in journeys:
                if trace is not self.trace:
                    yield stream, trace

    def of_its_stream(self) -> list[list[int]]:
        """The other frames of its stream."""
        return [trace for trace in self.journal.journeys.get(self.stream, ()) if trace is not self.trace]

    def shared(self, began_ns: int, ended_ns: int) -> int:
        """How much of the part falls into that time."""
        return overlap(began_ns, ended_ns, self.began_ns, self.ended_ns)

    def meets(self, began_ns: int, ended_ns: int) -> bool:
        """Whether any of it does."""
        return began_ns < self.ended_ns and ended_ns > self.began_ns

    def explains(self, shared_ns: int) -> bool:
        """Whether it is enough to be named."""
        return 2 * shared_ns >= self.excess_ns


def cause(case: Case, part: str) -> str:
    """What kept the frame in ``part``, in words; empty where nothing is known to have."""
    return _pause(case) or _CAUSES.get(part, _unknown)(case)


class _Busy(NamedTuple):
    """Something that was at work for part of the time."""

    shared_ns: int
    text: str


def _longest(candidates: Iterable[_Busy]) -> _Busy:
    return max(candidates, key=lambda each: each.shared_ns, default=_Busy(0, ""))


def _pause(case: Case) -> str:
    pause = max(case.journal.pauses, key=lambda each: case.shared(each.began_ns, each.ended_ns), default=None)
    if pause is None or not case.explains(case.shared(pause.began_ns, pause.ended_ns)):
        return ""
    return f"garbage collection (generation {pause.generation}) took {as_time(pause.ended_ns - pause.began_ns)}"


def _decoder(case: Case) -> str:
    """It waits for its turn to be shown, so for the packets after its own; or its reader is busy."""
    own = case.of_its_stream()
    read_ns = case.trace[_READ]
    reads = sorted([read_ns, *(trace[_READ] for trace in own)])
    numbers = {case.trace[FRAME], *(trace[FRAME] for trace in own)}
    if len(numbers) <= max(numbers) - min(numbers):  # what was thinned out was read as well, nobody knows when
        reads.clear()
    gaps = [after - before for before, after in pairwise(reads)]
    usual_ns = median(gaps) if len(gaps) > 2 else 0
    gap = _longest(
        _Busy(case.shared(before, after), f"nothing was read for {as_time(after - before)}")
        for before, after in pairwise(reads)
        if after - before >= 2 * usual_ns
    )
    if case.explains(gap.shared_ns):
        return gap.text
    held = _longest(
        _Busy(case.shared(trace[Mark.PREPARE], trace[Mark.QUEUED]), f"its reader was held up with frame {trace[FRAME]}")
        for trace in own
        if trace[_QUEUED] > case.began_ns and trace[_PREPARE] < case.ended_ns
    )
    if case.explains(held.shared_ns):
        return held.text
    before = [trace for trace in own if trace[_READ] > read_ns and trace[FRAME] < case.trace[FRAME]]
    last_ns = max((trace[_READ] for trace in before), default=0)
    if not case.explains(case.shared(case.began_ns, last_ns)):
        return ""
    return f"{count(len(before), 'frame')} shown before it came after it"


def _scheduler(case: Case) -> str:
    batches = [
        _Busy(
            case.shared(each.began_ns, each.parsed_ns),
            f"{_called(each, case)} kept {each.worker} for {as_time(each.parsed_ns - each.began_ns)}",
        )
        for each in case.batches()
    ]
    longest = _longest(batches)
    if case.explains(longest.shared_ns):
        return longest.text
    if case.explains(sum(each.shared_ns for each in batches)):
        return f"{sum(each.shared_ns > 0 for each in batches)} batches were served before it"
    return _follow_busy(case) or _sinks_busy(case)


def _batch(case: Case) -> str:
    batch, trace = case.batch, case.trace
    if batch is None:
        return ""
    company_ns = trace[Mark.SEALED] - trace[Mark.COLLECT]
    if trace[Mark.INFER] - trace[Mark.SEALED] > company_ns:
        if 2 * batch.making_ns >= trace[Mark.INFER] - trace[Mark.SEALED]:
            return f"{batch.worker} prepared what is in batch {batch.number} for {as_time(batch.making_ns)}"
        before = _longest(
            _Busy(case.shared(each.began_ns, each.parsed_ns), f"behind {_called(each, case)} of {each.worker}")
            for each in case.batches()
            if each.worker == batch.worker
        )
        return f"batch {batch.number} waited {before.text}" if before.text else ""
    if batch.awaited and 2 * (batch.complete_ns - trace[Mark.COLLECT]) >= company_ns:
        return f"batch {batch.number} waited for {batch.awaited}"
    return f"batch {batch.number} waited for more frames, and none came"


def _infer(case: Case) -> str:
    return "" if case.batch is None else _called(case.batch, case)


def _reorder(case: Case) -> str:
    before = max(
        (trace for trace in case.of_its_stream() if trace[FRAME] < case.trace[FRAME]),
        key=lambda trace: trace[Mark.PARSED],
        default=None,
    )
    if before is not None and case.explains(case.shared(case.began_ns, before[Mark.PARSED])):
        return f"frame {before[FRAME]}, before it, was not ready"
    return _follow_busy(case) or _sinks_busy(case)


def _outlet(case: Case) -> str:
    if case.sink is None:
        return ""
    writes = list(case.writes(case.sink))
    busy = _longest(
        _Busy(
            case.shared(write.began_ns, write.ended_ns),
            f"{case.sink} wrote {write.stream} frame {write.frame} for {as_time(write.ended_ns - write.began_ns)}",
        )
        for write in writes
    )
    if case.explains(busy.shared_ns):
        return busy.text
    waited = sum(case.shared(write.began_ns, write.ended_ns) > 0 for write in writes)
    return f"{case.sink} wrote {count(waited, 'result')} before it" if waited else f"{case.sink} was busy"


def _sink(case: Case) -> str:
    return f"{case.sink} wrote" if case.sink is not None else ""


def _unknown(case: Case) -> str:
    return ""


def _follow_busy(case: Case) -> str:
    busy = _longest(
        _Busy(case.shared(trace[Mark.FOLLOW], trace[Mark.FOLLOWED]), f"follow was at work for {stream}")
        for stream, trace in case.others()
        if trace[Mark.FOLLOWED] and case.meets(trace[Mark.FOLLOW], trace[Mark.FOLLOWED])
    )
    return busy.text if case.explains(busy.shared_ns) else ""


def _sinks_busy(case: Case) -> str:
    busy = _longest(
        _Busy(case.shared(write.began_ns, write.ended_ns), f"{sink} wrote and held follow up")
        for sink in case.journal.writes
        for write in case.writes(sink)
    )
    return busy.text if case.explains(busy.shared_ns) else ""


_CAUSES: Final[dict[str, Callable[[Case], str]]] = {
    "decoder": _decoder,
    "scheduler": _scheduler,
    "batch": _batch,
    "infer": _infer,
    "postprocess": _infer,
    "reorder": _reorder,
    "outlet": _outlet,
    "sink": _sink,
}


def _called(batch: BatchRun, case: Case) -> str:
    """``batch 1412 of size 4``, or ``batch of 8 (usually 2)`` where that is unusual."""
    usual = case.journal.usual_items
    if usual and batch.items >= BIGGER * usual:
        return f"batch of {batch.items} (usually {usual})"
    return f"batch {batch.number} of size {batch.items}"


def _interval(trace: list[int], part: str) -> tuple[int, int]:
    """When the frame was in a part: its intervals follow each other."""
    began_ns = ended_ns = before_ns = trace[Mark.READ]
    inside = False
    for mark in range(1, len(Mark)):
        at_ns = trace[mark]
        if at_ns:
            if PARTS[mark] == part:
                began_ns, ended_ns, inside = (began_ns if inside else before_ns), at_ns, True
            before_ns = at_ns
    return began_ns, ended_ns


def overlap(began_ns: int, ended_ns: int, since_ns: int, until_ns: int) -> int:
    """What two times share, nanoseconds."""
    return max(0, min(ended_ns, until_ns) - max(began_ns, since_ns))


def as_time(duration_ns: int) -> str:
    """``2.3 ms``, ``83 ms``, ``1.0 s``."""
    milliseconds = duration_ns / 1e6
    if milliseconds < 9.95:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.0f} ms" if milliseconds < 999.5 else f"{milliseconds / 1e3:.1f} s"
