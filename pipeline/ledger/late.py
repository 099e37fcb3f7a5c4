# SPDX-License-Identifier: Apache-2.0
"""Which frames were late, and which part of their way made them so.

**Late** is a frame whose end-to-end time is over its stream's limit: its budget (``latency_budget_ms``) where it has
one, else

    max(p99, p50 + max(10 ms, p50 / 4))

of the end-to-end times before it, once there are 200: slower than 99 of 100, and by so much that it matters. The wait
of a playout delay does not count as time that a frame took: who is held until its time, and leaves then, is not late.

**To blame** is the part k of its way (:func:`pipeline.timing.part_times`) with the largest excess t_k - m_k, where t_k
is what it took and m_k its median in this stream. Before 20 frames nothing is usual: m_k is 0. So it is of a frame that
took about as long as usual, p50 + max(10 ms, p50 / 4) at most, where that is late itself: then the longest part is to
blame. Percentiles are those of the frames so far, measured anew with every sixteenth more.

All late frames are counted by that part. Of each block of finished frames the slowest few are kept with their whole
journey and what else ran then (:mod:`pipeline.ledger.why`); what is kept is bounded.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from pipeline.ledger.blocks import SERIES, Block, Int64Array
from pipeline.ledger.histograms import Snapshot
from pipeline.ledger.journal import Journal
from pipeline.ledger.stats import Latency
from pipeline.ledger.why import Reason, explain
from pipeline.measures import Histogram
from pipeline.timing import FRAME, PTS, Mark, elapsed

ENOUGH_FOR_P99: Final = 200
ENOUGH_FOR_A_MEDIAN: Final = 20
LEAST_NS: Final = 10_000_000
"""What a frame took longer than usual by less than this is no news, unless its budget says so."""
OF_A_BLOCK: Final = 4
"""Late frames of one block of which the journey is kept and explained."""
NEWEST: Final = 16
SLOWEST: Final = 5
"""Late frames of a stream that are remembered: the newest, and the slowest of all."""
WAY: Final = tuple(part for part in SERIES if part not in ("queue", "end_to_end"))
"""What the way of a frame consists of: every stage but ``queue``, and each of the places of which that is the sum."""
BLAMED: Final = tuple(part for part in WAY if part != "playout")
"""What may make a frame late: all of that but the wait that was asked for."""

_WAY: Final = [SERIES.index(part) for part in WAY]
_BLAMED: Final = [SERIES.index(part) for part in BLAMED]
_PLAYOUT: Final = SERIES.index("playout")
_NONE: Final = np.zeros(0, np.int64)

By = Literal["budget", "p99"]
Around = Callable[[int], Journal]
"""What ended since a time (monotonic nanoseconds)."""


def _nothing(since_ns: int) -> Journal:
    return Journal({}, [], {}, [])


@dataclass(frozen=True, slots=True)
class Late:
    """A late frame, nanoseconds.

    Attributes:
        trace: its journey, see :mod:`pipeline.timing.trace`.
        limit_ns: what it should have taken at most.
        by: whether its budget says so, or how long frames of its stream usually take.
        part, excess_ns: what made it late, and by how much that part was longer than usual.
        parts, usual: what each part took, and the medians; no ``usual`` before there are enough frames.
        reason: what else ran then, and the verdict.
    """

    stream: str
    trace: list[int]
    limit_ns: int
    by: By
    part: str
    excess_ns: int
    parts: dict[str, int]
    usual: dict[str, int]
    reason: Reason

    @property
    def frame(self) -> int:
        """Its number."""
        return self.trace[FRAME]

    @property
    def took_ns(self) -> int:
        """End to end."""
        return elapsed(self.trace)

    @property
    def ended_ns(self) -> int:
        """When the last sink was done with it."""
        return self.trace[Mark.READ] + self.took_ns

    def as_dict(self, start_ns: int) -> dict[str, Any]:
        """An entry of ``slow_frames`` in ``report.json``; ``at_s``: when it was read, seconds since ``start_ns``."""
        return {
            "stream": self.stream,
            "frame": self.frame,
            "pts": round(self.trace[PTS] / 1e9, 6),
            "at_s": round((self.trace[Mark.READ] - start_ns) / 1e9, 3),
            "end_to_end_ms": _ms(self.took_ns),
            "limit_ms": _ms(self.limit_ns),
            "by": self.by,
            "part": self.part,
            "excess_ms": _ms(self.excess_ns),
            "parts_ms": {part: _ms(took_ns) for part, took_ns in self.parts.items()},
            "usual_ms": {part: _ms(took_ns) for part, took_ns in self.usual.items()},
            "verdict": self.reason.verdict,
            "beside": self.reason.as_dict(),
        }


class LateFrames:
    """The late frames of one stream. Used under the lock of its times.

    Attributes:
        limit_ns: what a frame may take at most, by what is known so far; None while that is too little.
        parts: late frames by the part that is to blame.
        kept: how many were kept with their journey so far.
        newest: the latest ones of these, oldest first.
        slowest: the slowest ones, slowest first.
    """

    def __init__(self, stream: str = "", budget_ns: int | None = None, around: Around = _nothing) -> None:
        self._stream = stream
        self._budget_ns = budget_ns
        self._by: By = "p99" if budget_ns is None else "budget"
        self._around = around
        self._measure_at = ENOUGH_FOR_P99
        self._usual: dict[str, int] = {}  # medians of the parts
        self._usual_ns = 0
        self._look_at = ENOUGH_FOR_A_MEDIAN
        self.limit_ns = budget_ns
        self.parts: Counter[str] = Counter()
        self.kept = 0
        self.newest: deque[Late] = deque(maxlen=NEWEST)
        self.slowest: list[Late] = []

    @property
    def frames(self) -> int:
        """How many there were so far; any thread may ask."""
        return self.parts.total()

    @staticmethod
    def add_each(many: Sequence[LateFrames], block: Block, latencies: Sequence[Latency]) -> None:
        """Frames of each of ``many``, the block's streams, that were finished after those before, and are in
        ``latencies``."""
        late = [
            (one, rows, latency)
            for number, (one, latency) in enumerate(zip(many, latencies, strict=True))
            if (rows := one._over(block, number)).size
        ]
        if late:
            _look_at_the_usual([(one, latency) for one, _, latency in late if latency.frames >= one._look_at])
            LateFrames._blame([one for one, _, _ in late], [rows for _, rows, _ in late], block)
        for one, latency in zip(many, latencies, strict=True):
            if one._budget_ns is None and latency.frames >= one._measure_at:
                one.limit_ns = _limit_ns(latency.end_to_end.histogram)
                one._measure_at = _somewhat_more(latency.frames)

    def _over(self, block: Block, stream: int) -> Int64Array:
        """The rows of the frames of one of the block's streams that are late."""
        if self.limit_ns is None or block.tallies[stream].maxima[-1] <= self.limit_ns:
            return _NONE
        own = block.rows(stream)
        rows: Int64Array = own.start + np.flatnonzero(_unheld_ns(block.durations[own]) > self.limit_ns)
        return rows

    def forget(self) -> None:
        """Keep the counts only."""
        self.newest.clear()
        self.slowest.clear()

    def as_dict(self) -> dict[str, Any]:
        """``late`` of a stream in ``report.json``."""
        return {
            "frames": self.frames,
            "limit_ms": None if self.limit_ns is None else _ms(self.limit_ns),
            "by": self._by,
            "parts": dict(self.parts.most_common()),
        }

    @staticmethod
    def _blame(many: Sequence[LateFrames], late: Sequence[Int64Array], block: Block) -> None:
        """Say what made the frames in these rows of each of ``many`` late, and keep the slowest few of each."""
        counts, rows = [own.size for own in late], np.concatenate(late)
        durations = block.durations[rows]
        took = _unheld_ns(durations)
        as_usual = took <= np.repeat([one._usual_at_most_ns for one in many], counts)
        usual = np.repeat([[one._usual.get(part, 0) for part in BLAMED] for one in many], counts, axis=0)
        usual[as_usual] = 0
        excess = durations[:, _BLAMED] - usual
        parts, excess_ns = [BLAMED[worst] for worst in excess.argmax(axis=1).tolist()], excess.max(axis=1).tolist()
        kept: list[tuple[LateFrames, int]] = []
        slowness, end = took.tolist(), 0
        for one, count in zip(many, counts, strict=True):
            begin, end = end, end + count
            one.parts.update(parts[begin:end])
            slowest = sorted(range(begin, end), key=slowness.__getitem__)[-OF_A_BLOCK:]
            kept += [(one, at) for at in sorted(slowest)]
        traces = {at: block.traces[rows[at]] for _, at in kept}
        # What ran around them is looked up once for all: streams of one run are late together.
        journal = many[0]._around(min(trace[Mark.READ] for trace in traces.values()))
        for one, at in kept:
            one._keep(traces[at], parts[at], excess_ns[at], durations[at], journal, as_usual=bool(as_usual[at]))

    @property
    def _usual_at_most_ns(self) -> int:
        """A late frame that took no longer took about as long as usual; below 0 where usual frames are not late."""
        return _unusual_ns(self._usual_ns) if self._usual_ns > (self.limit_ns or 0) else -1

    def _keep(
        self, trace: list[int], part: str, excess_ns: int, durations: Int64Array, journal: Journal, *, as_usual: bool
    ) -> None:
        parts = {name: took_ns for name, took_ns in zip(WAY, durations[_WAY].tolist(), strict=True) if took_ns}
        reason = explain(self._stream, trace, part, excess_ns, journal, as_usual=as_usual)
        late = Late(self._stream, trace, self.limit_ns or 0, self._by, part, excess_ns, parts, self._usual, reason)
        self.kept += 1
        self.newest.append(late)
        self.slowest = sorted([*self.slowest, late], key=lambda one: -one.took_ns)[:SLOWEST]


def _unheld_ns(durations: Int64Array) -> Int64Array:
    """Of (frames, series): the whole way, less the wait for the time at which it was to be published."""
    return durations[:, -1] - durations[:, _PLAYOUT]


def _limit_ns(end_to_end: Histogram) -> int:
    p50, p99 = end_to_end.percentiles((50, 99))
    return max(p99, _unusual_ns(p50))


def _unusual_ns(usual_ns: int) -> int:
    return usual_ns + max(LEAST_NS, usual_ns // 4)


def _look_at_the_usual(many: Sequence[tuple[LateFrames, Latency]]) -> None:
    """Measure anew what the parts and the whole way of each usually take."""
    if not many:
        return
    found = Snapshot([latency.histograms for _, latency in many])
    medians = found.percentiles((50,))[:, :, 0].tolist()
    for (one, latency), counts, own in zip(many, found.counts.tolist(), medians, strict=True):
        one._usual = {part: own[at] for part, at in zip(WAY, _WAY, strict=True) if counts[at]}
        one._usual_ns = own[-1]
        one._look_at = _somewhat_more(latency.frames)


def _somewhat_more(frames: int) -> int:
    """When to measure again: of fewer frames more it would be much the same."""
    return frames + frames // 16


def _ms(value_ns: int) -> float:
    return value_ns / 1e6  # of whole nanoseconds: it has six decimals
