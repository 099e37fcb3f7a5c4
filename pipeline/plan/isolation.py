# SPDX-License-Identifier: Apache-2.0
"""What a camera costs more that is read in a process of its own, found out with its copy at its own pace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from pipeline import build
from pipeline.errors import SourceUnavailable
from pipeline.plan.copies import Copy
from pipeline.plan.costs import StreamCosts
from pipeline.protocols import Source
from pipeline.sources import Isolation
from pipeline.threads import StopFlag
from pipeline.timing import now_ns, thread_cpu_ns

LEAST: Final = 20
"""Frames that are looked at in any case."""
_SETTLED: Final = 5
"""Frames after which a process has loaded what it needs."""


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
    known: dict[tuple[object, ...], float] = {}
    found = dict(streams)
    for copy in copies:
        if not copy.isolated or stop.is_set():
            continue
        costs = streams[copy.stream.name]
        kind = costs.codec, costs.width, costs.height
        if kind not in known:
            say(f"measuring: {copy.stream.name} in a process of its own")
            try:
                known[kind] = max(0.0, frame_ms(copy, seconds, stop) - costs.decode_ms)
            except SourceUnavailable:
                if not stop.is_set():
                    raise
                break
        found[copy.stream.name] = replace(costs, isolation_ms=known[kind])
    return found


def frame_ms(copy: Copy, seconds: float, stop: StopFlag) -> float:
    """CPU time of a decoded frame there and here, milliseconds; raises SourceError."""
    homes: list[Isolation] = []
    source = build.feed(copy.config, apart=homes).source
    try:
        source.open(stop)
        (home,) = homes
        first = index = _read(source, copy, _SETTLED)
        until_ns = now_ns() + int(seconds * 1e9)
        before_ns = thread_cpu_ns() + home.cpu_ns
        while index - first < LEAST or now_ns() < until_ns:
            index = _read(source, copy)
        return (thread_cpu_ns() + home.cpu_ns - before_ns) / 1e6 / (index - first)
    finally:
        source.close()


def _read(source: Source, copy: Copy, frames: int = 1) -> int:
    """Read some frames, at least one; the number of the last one."""
    index = 0
    for _ in range(frames):
        capture = source.read()
        if capture is None:
            raise SourceUnavailable(f"{copy.stream.name}: its process was stopped", cause="io")
        index = capture.index
    return index
