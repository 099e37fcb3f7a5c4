# SPDX-License-Identifier: Apache-2.0
"""What a camera costs more that is read in a process of its own, found out with its copy at its own pace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from pipeline import build
from pipeline.errors import SourceUnavailable
from pipeline.plan.copies import Copy
from pipeline.plan.costs import StreamCosts
from pipeline.protocols import Source
from pipeline.sources import Isolation
from pipeline.threads import Crew, StopFlag
from pipeline.timing import now_ns, thread_cpu_ns

LEAST: Final = 20
"""Frames that are looked at in any case."""
_SETTLED: Final = 5
"""Frames after which a process has loaded what it needs."""


class Apart(NamedTuple):
    """What a process of its own takes more than a thread.

    Attributes:
        frame_ms: CPU milliseconds more for each decoded frame, there and here together.
        memory_mb: memory that the process alone has, MiB.
    """

    frame_ms: float
    memory_mb: float


def with_isolation(
    copies: Sequence[Copy],
    streams: dict[str, StreamCosts],
    seconds: float,
    stop: StopFlag,
    say: Callable[[str], None],
) -> dict[str, StreamCosts]:
    """The costs of all streams, with what their own processes cost more. Pictures of one size are looked at once.

    Raises SourceError where a copy cannot be read there.
    """
    known: dict[tuple[object, ...], Apart] = {}
    found = dict(streams)
    for copy in copies:
        if not copy.isolated or stop.is_set():
            continue
        costs = streams[copy.stream.name]
        kind = costs.codec, costs.width, costs.height
        if kind not in known:
            say(f"measuring: {copy.stream.name} in a process of its own")
            try:
                known[kind] = apart(copy, seconds, stop)
            except SourceUnavailable:
                if not stop.is_set():
                    raise
                break
        more = known[kind]
        found[copy.stream.name] = replace(costs, isolation_ms=more.frame_ms, isolation_mb=more.memory_mb)
    return found


def apart(copy: Copy, seconds: float, stop: StopFlag) -> Apart:
    """Read a copy in a thread and in a process at the same time; raises SourceError.

    Both at its own pace: a core that has been asleep, or did something else, takes twice as long for a frame as one
    that decodes one after the other, and that is no difference between a thread and a process.
    """
    crew: Crew[float] = Crew(["measure:here"])
    crew.start()
    both = StopFlag()  # who fails does not leave the other one behind
    try:
        handed = crew.hand(lambda: _thread_ms(copy, seconds, both))
        there_ms, memory_mb = _process_ms(copy, seconds, stop)
        here_ms = handed.result()
    finally:
        both.set()
        crew.rest()
    return Apart(max(0.0, there_ms - here_ms), memory_mb)


def _thread_ms(copy: Copy, seconds: float, stop: StopFlag) -> float:
    source = build.feed(copy.config).source
    try:
        source.open(stop)
        return _frame_ms(source, copy, seconds, thread_cpu_ns)
    finally:
        source.close()


def _process_ms(copy: Copy, seconds: float, stop: StopFlag) -> tuple[float, float]:
    """And the memory of the process."""
    homes: list[Isolation] = []
    source = build.feed(copy.config, apart=homes).source
    try:
        source.open(stop)
        (home,) = homes
        frame_ms = _frame_ms(source, copy, seconds, lambda: thread_cpu_ns() + home.cpu_ns)
        return frame_ms, home.own_bytes / (1 << 20)
    finally:
        source.close()


def _frame_ms(source: Source, copy: Copy, seconds: float, spent_ns: Callable[[], int]) -> float:
    """CPU time of a decoded frame, milliseconds."""
    first = index = _read(source, copy, _SETTLED)
    until_ns, before_ns = now_ns() + int(seconds * 1e9), spent_ns()
    while index - first < LEAST or now_ns() < until_ns:
        index = _read(source, copy)
    return (spent_ns() - before_ns) / 1e6 / (index - first)


def _read(source: Source, copy: Copy, frames: int = 1) -> int:
    """Read some frames, at least one; the number of the last one."""
    index = 0
    for _ in range(frames):
        capture = source.read()
        if capture is None:
            raise SourceUnavailable(f"{copy.stream.name}: reading it was stopped", cause="io")
        index = capture.index
    return index
