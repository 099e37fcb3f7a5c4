# SPDX-License-Identifier: Apache-2.0
"""What happened lately, frame by frame: whole journeys, batches, writes of sinks and pauses, of the last seconds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import attrgetter
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from pipeline.timing import FRAME, Mark, Pause

LATELY_NS: Final = 12_000_000_000
"""How long things are remembered: ten seconds that somebody may ask for, and the time that asking takes."""
MOST: Final = 4096
"""Of each kind and stream at most, whatever the rate."""
MOST_FOR_A_FILE: Final = 50_000
"""Where a whole run is to be written into a file: frames of all streams together, batches, and writes of each sink. A
frame takes 1.2 kB until then, and 3 kB more while the file is written."""
_LATE_NS: Final = 1_000_000_000
"""How long a thread may be held up between the end of something and its note of it."""

NEVER_NS: Final = 1 << 62


class Ended(Protocol):
    """Something that is over."""

    @property
    def ended_ns(self) -> int:
        """Since when, monotonic nanoseconds."""
        ...


T = TypeVar("T")
E = TypeVar("E", bound=Ended)
_END: Final = attrgetter("ended_ns")


class BatchRun(NamedTuple):
    """A batch that went through the network, monotonic nanoseconds.

    Attributes:
        worker: name of the thread.
        number, items: of the batch, and how many network inputs were in it.
        began_ns: as ``Mark.INFER`` of its frames, which tells them.
        inferred_ns, parsed_ns: when the network's outputs and the detections were there.
        awaited, complete_ns: the stream of the input that was queued last, and when that was.
        making_ns: how long its worker, before that, made inputs that readers had left to it.
    """

    worker: str
    number: int
    items: int
    began_ns: int
    inferred_ns: int
    parsed_ns: int
    awaited: str = ""
    complete_ns: int = 0
    making_ns: int = 0

    @property
    def times(self) -> tuple[int, int, int]:
        """What it has in common with its frames, see :func:`batch_times`."""
        return self.began_ns, self.inferred_ns, self.parsed_ns

    @property
    def taken_ns(self) -> int:
        """Since when its worker has been busy with it."""
        return self.began_ns - self.making_ns

    @property
    def ended_ns(self) -> int:
        """It is done with when its detections are there."""
        return self.parsed_ns


def batch_times(trace: list[int]) -> tuple[int, int, int]:
    """What a frame has in common with its batch; two workers' may have begun at the same time."""
    return trace[Mark.INFER], trace[Mark.INFERRED], trace[Mark.PARSED]


class Write(NamedTuple):
    """A sink wrote a result, monotonic nanoseconds."""

    began_ns: int
    ended_ns: int
    stream: str
    frame: int


class Lately(Generic[E]):
    """What ended within :data:`LATELY_NS`, and at most :data:`MOST`. One thread appends, any may look."""

    def __init__(self) -> None:
        self._kept: deque[E] = deque(maxlen=MOST)
        self._keep_ns = LATELY_NS

    def keep_more(self) -> None:
        """A whole run is to be written into a file."""
        self._kept = deque(self._kept, maxlen=MOST_FOR_A_FILE)
        self._keep_ns = NEVER_NS

    def add(self, item: E) -> None:
        """One more, that ended last; what is too old goes, and the oldest where there are too many."""
        kept = self._kept
        kept.append(item)
        too_old_ns = item.ended_ns - self._keep_ns
        while kept[0].ended_ns < too_old_ns:
            kept.popleft()

    def since(self, at_ns: int) -> list[E]:
        """Those that ended after ``at_ns``, in the order of their ends."""
        kept = list(self._kept.copy())  # a copy is made in one step: others may append meanwhile
        return sorted(tail(kept, _END, at_ns), key=_END)


def tail(kept: Sequence[T], ended_ns: Callable[[T], int], at_ns: int) -> list[T]:
    """Of things that were kept in the order of their ends, or nearly, those that ended after ``at_ns``: what is much
    older is not looked at."""
    first = bisect_right(kept, at_ns - _LATE_NS, key=ended_ns)
    return [each for each in kept[first:] if ended_ns(each) > at_ns]


@dataclass(frozen=True)
class Journal:
    """What happened since a time.

    Attributes:
        journeys: by stream, the traces of the frames that ended, see :mod:`pipeline.timing.trace`.
        batches, writes, pauses: see :class:`BatchRun`, :class:`Write` (by sink) and :class:`pipeline.timing.Pause`;
            batches and writes in the order of their ends.
        usual_items: inputs in the median batch of the run so far; 0 before the first.
        left_out: frames that ended before these and would belong to them, but are too many to be remembered.
    """

    journeys: Mapping[str, list[list[int]]]
    batches: list[BatchRun]
    writes: Mapping[str, list[Write]]
    pauses: list[Pause]
    usual_items: int = 0
    left_out: int = 0

    def batch_of(self, trace: list[int]) -> BatchRun | None:
        """The one that a frame was in, if it is known; of two workers' that had the same times, the first."""
        own = batch_times(trace)
        return next((batch for batch in ended_at(self.batches, trace[Mark.PARSED]) if batch.times == own), None)

    def sink_of(self, stream: str, trace: list[int]) -> str | None:
        """The sink that was the last to finish with a frame, if it is known."""
        own = Write(trace[Mark.SINK], trace[Mark.DONE], stream, trace[FRAME])
        return next((sink for sink, writes in self.writes.items() if own in ended_at(writes, trace[Mark.DONE])), None)


class Lazily(Mapping[str, T]):
    """What is looked up when it is asked for, once."""

    def __init__(self, names: Sequence[str], look: Callable[[str], T]) -> None:
        self._names = names
        self._look = look
        self._found: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._found:
            if name not in self._names:
                raise KeyError(name)
            self._found[name] = self._look(name)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def ended_after(each: Sequence[E], at_ns: int) -> Sequence[E]:
    """Those that ended after ``at_ns``, of things in the order of their ends."""
    return each[bisect_right(each, at_ns, key=_END) :]


def ended_at(each: Sequence[E], at_ns: int) -> Iterator[E]:
    """Those that ended at that time."""
    first = bisect_left(each, at_ns, key=_END)
    return takewhile(lambda one: one.ended_ns == at_ns, each[first:])
