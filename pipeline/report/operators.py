# SPDX-License-Identifier: Apache-2.0
"""What torch does in a running pipeline: its profiler looks at all threads for a few seconds.

The profiler's clock is not ours: it counts from 1970, and whoever sets the system's clock sets it. So it is shown
moments that ours knows as well, at the beginning and at the end, and what lies between them is placed by both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from pipeline.host.kineto import silent
from pipeline.ledger import Ledger
from pipeline.report.perfetto import Slice
from pipeline.threads import WorkerGroup
from pipeline.timing import now_ns

LONGEST_S: Final = 5.0
BATCHES: Final = 200
"""It looks for so long at most from the first batch on, and at so many batches."""
MOST: Final = 100_000
"""And at about so many operators: torch needs 1.2 kB for each while it looks. A network has some hundred in a batch,
``builtin:people`` thirty thousand: a few batches tell how many more it may look at."""
_FIRST_BATCHES: Final = 2
MOMENT: Final = "pipeline: a moment"
MOMENTS: Final = 5
"""How often it is shown one, at the beginning and at the end; of each five the one that was over soonest counts."""

_LOOK_S: Final = 0.05
_END_S: Final = 60.0
_ON_THE_CPU: Final = frozenset({"cpu_op", "user_annotation", "cuda_runtime", "cuda_driver"})
_ON_THE_GPU: Final = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})


class Span(NamedTuple):
    """Nanoseconds of some clock."""

    began_ns: int
    ended_ns: int

    @property
    def length_ns(self) -> int:
        """How long it took."""
        return self.ended_ns - self.began_ns

    @property
    def middle_ns(self) -> int:
        """Where it was half over."""
        return (self.began_ns + self.ended_ns) // 2


class Operators:
    """Looks at the operators of one run, in a thread of its own.

    Args:
        ledger: of the run, or None before there is one; its first batch begins the time.
        device: where the model runs, such as ``cuda:0``; asked for once there is a ledger.
        over: is told when what was seen is enough, or :meth:`end` was called.

    Attributes:
        began_ns: since when it looked, monotonic; 0 where it never did.
        slices: what was seen, on the clock of :func:`pipeline.timing.now_ns`.
        error: why nothing could be seen, or None.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger | None],
        device: Callable[[], str],
        over: Callable[[Operators], None] = lambda seen: None,
    ) -> None:
        self._ledger = ledger
        self._device = device
        self._over = over
        self._enough = threading.Event()
        self._looking = threading.Event()
        self._group = WorkerGroup()
        self._names: dict[int, str] = {}
        self.began_ns = 0
        self.slices: list[Slice] = []
        self.error: str | None = None

    def begin(self) -> None:
        """Look as soon as there is a ledger.

        Kineto begins in the thread that loaded torch, or complains on the terminal: if nobody has, that is the caller.
        """
        from torch.profiler import profile

        with silent(), profile():
            pass
        self._group.start("profile", self._work)

    def wait_until_it_looks(self) -> None:
        """Of a run whose ledger is there."""
        self._looking.wait()

    def end(self) -> None:
        """Look no more."""
        self._enough.set()
        if self._group.join(_END_S):
            self.error = f"torch's profiler did not end within {_END_S:g} s"

    def _work(self) -> None:
        try:
            while (ledger := self._ledger()) is None:
                if self._enough.wait(_LOOK_S):
                    return
            self.slices = self._seen(ledger)
        except (
            RuntimeError,
            ValueError,
            AttributeError,
            ImportError,
        ) as error:  # another one is at work, another torch
            self.error = f"torch's profiler shows nothing: {error}"
        finally:
            self._looking.set()
        self._over(self)

    def _seen(self, ledger: Ledger) -> list[Slice]:
        seen: list[Slice] = []
        batches, next_batches, deadline_ns = 0, _FIRST_BATCHES, None
        while next_batches > 0 and not self._enough.is_set():
            found, more, deadline_ns = self._look(ledger, next_batches, deadline_ns)
            seen += found
            batches += more
            if not batches or now_ns() >= (deadline_ns or 0):
                break
            next_batches = min(BATCHES - batches, (MOST - len(seen)) * batches // max(1, len(seen)))
        return seen

    def _look(self, ledger: Ledger, batches: int, deadline_ns: int | None) -> tuple[list[Slice], int, int | None]:
        """Look at so many batches, or until the time is over; how many it were, and when the time is over."""
        from torch._C._profiler import _ExperimentalConfig
        from torch.profiler import ProfilerActivity, profile

        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._device().startswith("cuda") else [])]
        everywhere = _ExperimentalConfig(profile_all_threads=True)
        before = sum(ledger.batches().values())
        with silent(), profile(activities=kinds, experimental_config=everywhere) as profiler:
            moments = _show_moments()
            self.began_ns = self.began_ns or moments[0].began_ns
            self._looking.set()
            self._learn_names()
            done = 0
            while not self._enough.wait(_LOOK_S):
                self._learn_names()
                done = sum(ledger.batches().values()) - before
                if done and deadline_ns is None:
                    deadline_ns = now_ns() + int(LONGEST_S * 1e9)
                if done >= batches or (deadline_ns is not None and now_ns() >= deadline_ns):
                    break
            self._learn_names()
            moments += _show_moments()
        events = profiler.profiler.kineto_results.events()
        return slices(events, self._names, moments), done, deadline_ns

    def _learn_names(self) -> None:
        """Threads may be gone when the names are needed."""
        self._names |= {one.native_id: one.name for one in threading.enumerate() if one.native_id is not None}


class KinetoEvent(Protocol):
    """Something that torch's profiler saw, by its own clock."""

    def name(self) -> str: ...  # noqa: D102 - as torch has it
    def activity_type(self) -> str: ...  # noqa: D102
    def start_ns(self) -> int: ...  # noqa: D102
    def end_ns(self) -> int: ...  # noqa: D102
    def device_index(self) -> int: ...  # noqa: D102
    def device_resource_id(self) -> int: ...  # noqa: D102 - the system's number of a thread, or a stream of a GPU


def slices(events: Sequence[KinetoEvent], names: Mapping[int, str], moments: Sequence[Span]) -> list[Slice]:
    """Operators on our clock.

    Args:
        events: what the profiler saw.
        names: of threads, by the system's number of them.
        moments: when the profiler was shown :data:`MOMENT`, by our clock: :data:`MOMENTS` times at the beginning, and
            as often at the end.

    Raises ValueError where it has not seen these moments.
    """
    shown, others = [], []
    for event in events:
        kind = event.activity_type()
        if event.name() == MOMENT:
            shown.append(Span(event.start_ns(), event.end_ns()))
        elif kind in _ON_THE_CPU or kind in _ON_THE_GPU:
            others.append((kind, event))
    if len(shown) != len(moments):
        raise ValueError(f"its clock cannot be told: {len(shown)} of {len(moments)} moments were seen")
    clock = _Clock(list(zip(sorted(shown), moments, strict=True)))
    return [
        Slice(_track(kind, event, names), event.name(), *clock.ours(Span(event.start_ns(), event.end_ns())), {})
        for kind, event in others
    ]


class _Clock:
    """The profiler's against ours: what they differ by at the beginning and at the end, and evenly between."""

    def __init__(self, moments: Sequence[tuple[Span, Span]]) -> None:
        """``moments``: theirs and ours, in the order of time."""
        half = len(moments) // 2
        (first, ours_first), (last, ours_last) = (
            min(end, key=lambda one: one[1].length_ns) for end in (moments[:half], moments[half:])
        )
        self._first_ns = first.middle_ns
        self._span_ns = max(1, last.middle_ns - first.middle_ns)
        self._offset_ns = ours_first.middle_ns - first.middle_ns
        self._drift_ns = ours_last.middle_ns - last.middle_ns - self._offset_ns

    def ours(self, theirs: Span) -> Span:
        """The same by our clock."""
        return Span(*(at + self._offset_ns + self._drifted_ns(at) for at in theirs))

    def _drifted_ns(self, at_ns: int) -> int:
        return round(self._drift_ns * (at_ns - self._first_ns) / self._span_ns)


def _show_moments() -> list[Span]:
    from torch.profiler import record_function

    moments = []
    for _ in range(MOMENTS):
        began_ns = now_ns()
        with record_function(MOMENT):
            pass
        moments.append(Span(began_ns, now_ns()))
    return moments


def _track(kind: str, event: KinetoEvent, names: Mapping[int, str]) -> str:
    number = event.device_resource_id()
    if kind in _ON_THE_GPU:
        return f"gpu:{event.device_index()} stream {number}"
    return f"{names.get(number, f'thread {number}')} operators"
