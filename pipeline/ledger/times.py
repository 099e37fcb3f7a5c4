# SPDX-License-Identifier: Apache-2.0
"""The times of one stream's frames: the loops leave traces here, which are taken apart in blocks, not on the way."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from pipeline.ledger.blocks import NOTHING, Block, Tally
from pipeline.ledger.capture import CaptureTimes
from pipeline.ledger.course import Course
from pipeline.ledger.exits import Exits
from pipeline.ledger.journal import LATELY_NS, MOST, tail
from pipeline.ledger.late import Around, Late, LateFrames
from pipeline.ledger.measured import Measured
from pipeline.ledger.stats import Latency, of_histograms, of_latencies, of_tallies
from pipeline.ledger.whole import WholeRun
from pipeline.ledger.windows import SPANS, Whole, Window
from pipeline.measures import Histogram, IntervalJitter
from pipeline.timing import Mark, elapsed, thread_cpu_ns

BLOCK: Final = 512
"""With so many traces whoever is on the way of a frame takes them apart, since nobody else has."""


T = TypeVar("T")

_READ, _DONE, _MARKS = int(Mark.READ), int(Mark.DONE), len(Mark)


def _ended_ns(trace: list[int]) -> int:
    return trace[_DONE] or max(trace[:_MARKS])


class Lateness(NamedTuple):
    """The late frames of a stream.

    Attributes:
        counts: ``late`` in ``report.json``.
        newest: newest first.
        slowest: slowest first.
    """

    counts: dict[str, Any]
    newest: list[Late]
    slowest: list[Late]


class StreamTimes:
    """Distributions of one stream, over its whole life and lately.

    :meth:`finished` and :meth:`lost` are all that the way of a frame sees of it: the trace is appended to a list.
    Whoever asks for figures does the work, or waits for the run's end (:meth:`pipeline.ledger.ledger.Ledger.catch_up`),
    under this stream's own lock. Only where nobody does is it left to whoever appends a block's last trace, who never
    waits for others that are at it.

    Attributes:
        lock, held: for :mod:`pipeline.ledger.holding`: while it is held, nothing is taken apart.
        late: the frames that were late so far.
        frames, cpu_ns: traces taken apart so far, and the CPU time that this took.
    """

    def __init__(self, stream: str = "", *, looks_back: bool) -> None:
        """``looks_back``: frames come at a pace of their own, so they have jitter, and there is a "lately"."""
        # What others leave behind
        self._finished: list[list[int]] = []
        self._gone: list[list[int]] = []
        self._reconnects_ns: list[int] = []
        self.lock = threading.RLock()
        self.held = False
        self._latency = Latency()
        self._course = Course()
        self._window = Window() if looks_back else None
        self._exits = Exits() if looks_back else None
        self._capture = CaptureTimes()
        self._departure = IntervalJitter()
        self._lost = Histogram()
        self._journeys: deque[list[int]] = deque(maxlen=MOST)
        self._whole: WholeRun | None = None
        self._stream = stream
        self.late = LateFrames(stream)
        self.frames = 0
        self.cpu_ns = 0

    def finished(self, trace: list[int]) -> None:
        """A published frame has left its last sink; its trace no longer changes."""
        self._finished.append(trace)
        if len(self._finished) >= BLOCK:
            self._try_to_fold()

    def lost(self, trace: list[int]) -> None:
        """A frame was dropped; its journey ends where that happened, and its trace no longer changes."""
        self._gone.append(trace)
        if len(self._gone) >= BLOCK:
            self._try_to_fold()

    def reconnected(self, at_ns: int) -> None:
        """The first frame of a new connection came."""
        self._reconnects_ns.append(at_ns)
        if len(self._reconnects_ns) >= BLOCK:
            self._try_to_fold()

    def measured(self, now_ns: int) -> Measured:
        """A copy of all distributions, and their figures; ``now_ns``: when the windows end (monotonic)."""
        latency, course = Latency(), Course()
        with self.lock:
            self._fold()
            latency.merge(self._latency)
            course.merge(self._course)
            return replace(self.measured_of([self], now_ns)[0], latency=latency, course=course)

    @staticmethod
    def measured_of(many: Sequence[StreamTimes], now_ns: int) -> list[Measured]:
        """The same of ``many``, which are held: for as long as they are, since nothing is copied."""
        figures, distributions = of_latencies([each._latency for each in many])
        windows = [{span_s: each._recent(span_s, now_ns) for span_s in SPANS} for each in many]
        lately = iter(of_tallies([tally for each in windows for tally in each.values()]))
        nominal_ns, exits = [each._nominal_ns for each in many], StreamTimes.exits_of(many)
        corrected = _corrected([each._latency for each in many], nominal_ns)
        singles = [
            of_histograms(some)
            for some in (corrected, [each._lost for each in many], [each._capture.histogram for each in many])
        ]
        return [
            Measured(
                each._latency,
                each._course,
                windows[number],
                figures[number],
                distributions[number],
                {span_s: next(lately) for span_s in SPANS},
                nominal_ns[number],
                exits[number],
                corrected[number],
                *(told[number] for told in singles),
            )
            for number, each in enumerate(many)
        ]

    def ask(self, question: Callable[[Latency], T]) -> T:
        """What ``question`` finds in the distributions so far. It keeps none of them: half a megabyte per stream need
        not be copied."""
        with self.lock:
            self._fold()
            return question(self._latency)

    @staticmethod
    def ask_all(many: Sequence[StreamTimes], question: Callable[[Sequence[Latency]], T]) -> T:
        """The same of ``many``, which are held."""
        return question([each._latency for each in many])

    def keep_in(self, whole: WholeRun) -> None:
        """Journeys are to be written into a file: remember them there as well. Before the first frame."""
        self._whole = whole

    def watch(self, budget_ns: int | None, around: Around) -> None:
        """Say which frames are late by their budget, if they have one, and what ran around them."""
        self.late = LateFrames(self._stream, budget_ns, around)

    @property
    def left(self) -> int:
        """Traces that nobody has taken apart yet."""
        return len(self._finished) + len(self._gone)

    @property
    def has_late(self) -> bool:
        """Whether a frame among them is late: it is not to wait for the others."""
        limit_ns = self.late.limit_ns
        return limit_ns is not None and any(
            _ended_ns(trace) - trace[_READ] > limit_ns for trace in self._finished.copy()
        )

    def lateness(self) -> Lateness:
        """The late frames so far."""
        with self.lock:
            self._fold()
            late = self.late
            return Lateness(late.as_dict(), list(late.newest)[::-1], list(late.slowest))

    def newest_late(self, most: int) -> list[Late]:
        """Of the late frames that were kept, the newest first; nothing is taken apart for it."""
        with self.lock:
            return list(self.late.newest)[::-1][:most]

    def kept_since(self, seen: int) -> tuple[int, list[Late]]:
        """How many late frames were kept with their journey so far, and those after the first ``seen`` that still
        are, oldest first."""
        with self.lock:
            if self.has_late:
                self._fold()
            kept, newest = self.late.kept, list(self.late.newest)
        return kept, newest[len(newest) - min(kept - seen, len(newest)) :]

    def blamed(self) -> Counter[str]:
        """How many frames were late so far, by the part to blame."""
        with self.lock:
            self._fold()
            return self.late.parts.copy()

    def glance(self, since_ns: int) -> list[list[int]]:
        """Roughly :meth:`newest`, for whoever takes another stream's times apart: it waits for nobody."""
        # These first: they may be taken apart meanwhile.
        left = [*self._finished.copy(), *self._gone.copy()]
        left.sort(key=_ended_ns)
        return [*tail(list(self._journeys.copy()), _ended_ns, since_ns), *tail(left, _ended_ns, since_ns)]

    def newest(self, since_ns: int) -> list[list[int]]:
        """The traces of frames that ended after ``since_ns``, dropped ones too, by the time of their end."""
        with self.lock:
            self._fold()
            found = [trace for trace in self._journeys if _ended_ns(trace) > since_ns]
        return sorted(found, key=_ended_ns)

    def take(self) -> Measured:
        """Give the distributions away: the last frame has finished."""
        with self.lock:
            self._fold()
            found = self.measured_of([self], 0)[0]
            self._latency, self._course = Latency(), Course()
            if self._exits is None:  # there may be thousands of such, and nobody looks at them lately
                self.late.newest.clear()
            return replace(found, windows={}, lately={})

    def recent(self, span_s: int, now_ns: int) -> Tally:
        """What finished in the last ``span_s`` (one of :data:`pipeline.ledger.windows.SPANS`) up to ``now_ns``; nothing
        where there is no "lately"."""
        with self.lock:
            self._fold()
            return self._recent(span_s, now_ns)

    def recent_whole(self, span_s: int, now_ns: int) -> Whole:
        """The same of the whole way only."""
        with self.lock:
            self._fold()
            return Whole([], 0, 0, 0) if self._window is None else self._window.whole(span_s, now_ns)

    def _recent(self, span_s: int, now_ns: int) -> Tally:
        return NOTHING if self._window is None else self._window.tally(span_s, now_ns)

    @property
    def _nominal_ns(self) -> int | None:
        return None if self._exits is None else self._exits.nominal_ns

    @property
    def departure_jitter_ns(self) -> float | None:
        """Standard deviation of the intervals between results; None before the second."""
        with self.lock:
            self._fold()
            value_ns = float(self._departure.value_ns[0])
            return None if math.isnan(value_ns) else value_ns

    @staticmethod
    def exits_of(many: Sequence[StreamTimes]) -> list[dict[str, Any]]:
        """Of each of ``many``, which are held, see :meth:`pipeline.ledger.exits.Exits.as_dicts`; empty for frames that
        are read as fast as possible: these arrive when they are asked for."""
        told = iter(Exits.as_dicts([each._exits for each in many if each._exits is not None]))
        return [{} if each._exits is None else next(told) for each in many]

    def capture(self) -> CaptureTimes:
        """What the camera says of its pictures, as long as nothing is added."""
        with self.lock:
            self._fold()
            return self._capture

    def capture_to_result(self) -> Histogram:
        """A copy of the times from the camera's lens to the result, nanoseconds."""
        copy = Histogram()
        with self.lock:
            self._fold()
            copy.merge(self._capture.histogram)
        return copy

    def let_go(self) -> None:
        """The stream ended some time ago: nobody will ask for its journeys."""
        with self.lock:
            self._journeys.clear()

    def forget(self) -> None:
        """The stream is an earlier life now: there is no "lately" for it."""
        with self.lock:
            self._fold()
            self._window = None
            self._journeys.clear()
            self.late.forget()

    def _try_to_fold(self) -> None:
        """Take apart what there is, unless somebody else is at it."""
        if self.lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self.lock.release()

    def _fold(self) -> None:
        """Take apart what there is; under the lock."""
        if not self.held and (self._finished or self._gone or self._reconnects_ns):
            take_apart([self])

    def _give(self) -> list[list[int]]:
        """What has finished since, to be taken apart with that of others; the rest is counted at once."""
        # Others may append meanwhile.
        finished, gone = self._finished[: len(self._finished)], self._gone[: len(self._gone)]
        reconnects_ns = self._reconnects_ns[: len(self._reconnects_ns)]
        if gone:
            self._lost.record_all(np.array([elapsed(trace) for trace in gone]))
            self._course.lost([_ended_ns(trace) for trace in gone])
        if reconnects_ns:
            self._course.reconnected(reconnects_ns)
        if finished or gone:
            self._remember(sorted([*finished, *gone], key=_ended_ns) if gone else finished)
        del self._finished[: len(finished)], self._gone[: len(gone)], self._reconnects_ns[: len(reconnects_ns)]
        return finished

    def _remember(self, traces: list[list[int]]) -> None:
        """Keep journeys that ended last, and forget those that are too old; under the lock."""
        if self._whole is not None:
            self._whole.add(self._stream, traces)
        self._journeys.extend(traces)
        too_old_ns = _ended_ns(traces[-1]) - LATELY_NS
        while self._journeys and _ended_ns(self._journeys[0]) < too_old_ns:
            self._journeys.popleft()


def _corrected(many: Sequence[Latency], nominal_ns: Sequence[int | None]) -> list[Histogram | None]:
    """See :attr:`pipeline.ledger.measured.Measured.corrected`."""
    whole = [each.end_to_end.histogram for each in many]
    expected = [number for number, each in enumerate(whole) if nominal_ns[number] and each.count]
    found: list[Histogram | None] = [None] * len(many)
    every = Histogram.corrected_each([whole[one] for one in expected], [nominal_ns[one] or 0 for one in expected])
    for number, histogram in zip(expected, every, strict=True):
        found[number] = histogram
    return found


def take_apart(many: Sequence[StreamTimes]) -> None:
    """What has finished of all of ``many``, together; under their locks."""
    began_ns = thread_cpu_ns()
    given = [(each, traces) for each in many if (traces := each._give())]
    for paced in (True, False):
        alike = [(each, traces) for each, traces in given if (each._exits is not None) == paced]
        if alike:
            _add([each for each, _ in alike], [traces for _, traces in alike])
    spent_ns, frames = thread_cpu_ns() - began_ns, sum(len(traces) for _, traces in given)
    for each, traces in given:
        each.frames += len(traces)
        each.cpu_ns += spent_ns * len(traces) // frames


def _add(many: Sequence[StreamTimes], traces: Sequence[list[list[int]]]) -> None:
    """``traces`` of each of ``many``: all of them have exits, or none has."""
    block = Block(*traces)
    Latency.add_each([each._latency for each in many], block)
    for number, each in enumerate(many):
        each._course.add(block, number)
        if each._window is not None:
            each._window.add(block.seconds[number])
    LateFrames.add_each([each.late for each in many], block, [each._latency for each in many])
    published_ns = block.published_ns[block.published]
    departures = [each._departure for each in many]
    IntervalJitter.add_each(departures, published_ns[:, None], None, block.firsts, [None] * len(many))
    exits = [each._exits for each in many if each._exits is not None]
    if exits:
        Exits.add_each(exits, block)
        if block.ages_ns.any():
            for number, each in enumerate(many):
                each._capture.add(block, number)
