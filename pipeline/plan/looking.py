# SPDX-License-Identifier: Apache-2.0
"""One stream's copy, read as fast as it can be, with the CPU time of each step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipeline import build
from pipeline.errors import SourceError, SourceUnavailable
from pipeline.frame import Capture, InputSpec, Uint8Array
from pipeline.frame.buffers import BufferPool
from pipeline.plan.copies import Copy
from pipeline.plan.costs import FrameCost, StreamCosts
from pipeline.sources.auto_skip import LOOK_S
from pipeline.threads import StopFlag
from pipeline.timing import now_ns, thread_cpu_ns

MOST_FRAMES: Final = 2000
"""Frames of one stream that are looked at, at most."""
LEAST_KEPT: Final = 4
"""Of a stream that is thinned out so many frames that are processed are looked at in any case."""
SETTLED_S: Final = 2 * LOOK_S + 1.0
"""So much of a stream has to pass before ``skip: auto`` leaves out what it will leave out."""


@dataclass(slots=True)
class Busy:
    """CPU time and wall time of steps that never wait by themselves: where they differ, others had the core."""

    cpu_ns: int = 0
    wall_ns: int = 0

    def add(self, cpu_ns: int, wall_ns: int) -> None:
        """One more step."""
        self.cpu_ns += cpu_ns
        self.wall_ns += wall_ns


@dataclass(slots=True)
class Look:
    """What was seen of one stream.

    Attributes:
        costs: of its frames.
        capture: one of them, with its picture.
        busy: of all steps.
    """

    costs: StreamCosts
    capture: Capture
    busy: Busy


def look(
    copy: Copy,
    spec: InputSpec,
    buffers: BufferPool,
    take: Callable[[InputSpec, Uint8Array], None],
    more: Callable[[], bool],
    stop: StopFlag,
) -> Look:
    """Read, and prepare what is to be processed, as long as ``more`` says so and there is something.

    Args:
        copy: what is read.
        spec: what the network wants to be given.
        buffers: memory for its inputs.
        take: is given each input, and owns it.
        more: asked after each frame.
        stop: ends it early.

    Raises SourceError where there is no frame, StageError where one cannot be prepared.
    """
    auto = copy.config.skip == "auto" and copy.config.fps is not None
    stream = build.feed(copy.config.model_copy(update={"pace": "asap", "loop": auto}))
    waits = copy.config.source.scheme == "pattern"  # which is paced by itself
    source, (stage,) = stream.source, stream.stages
    frames: list[FrameCost] = []
    busy, began_ns = Busy(), [now_ns()]
    last: Capture | None = None
    ended, kept = False, 0
    wanted = spec
    lap_cpu_ns = thread_cpu_ns()
    try:
        info = source.open(stop)
        lap_ns = thread_cpu_ns() - lap_cpu_ns
        while len(frames) < MOST_FRAMES and not stop.is_set() and (kept < LEAST_KEPT or more()):
            began_ns.append(now_ns())
            before_ns = thread_cpu_ns()
            try:
                capture = source.read()
            except SourceError:
                if last is None:
                    raise
                break
            decode_ns = thread_cpu_ns() - before_ns
            if capture is None:
                ended = True
                break
            last = capture
            if not waits:
                busy.add(decode_ns, now_ns() - began_ns[-1])
            prepare_ns, stalled_ns = None, 0
            if stream.keep(capture):
                wanted = stage.spec_for(capture.picture, spec)
                pixels = buffers.acquire(wanted.shape)
                at_ns, before_ns = now_ns(), thread_cpu_ns()
                stage.prepare(capture.picture, wanted, pixels)
                prepare_ns = thread_cpu_ns() - before_ns
                stalled_ns = max(0, now_ns() - at_ns - prepare_ns)
                busy.add(prepare_ns, now_ns() - at_ns)
                take(wanted, pixels)
            if auto and capture.pts_s < SETTLED_S:
                continue
            kept += prepare_ns is not None
            lag = max(0, len(began_ns) - bisect_right(began_ns, capture.read_ns))
            frames.append(FrameCost(capture.pts_s, decode_ns, lag, prepare_ns, stalled_ns))
    finally:
        source.close()
    if last is None or not frames:
        raise SourceUnavailable(f"{copy.stream.name}: not one frame could be read", cause="decode")
    if not ended:
        frames = _whole_periods(frames)
    costs = StreamCosts(
        tuple(frames),
        lap_ns if ended else None,
        wanted,
        last.picture.width,
        last.picture.height,
        info.codec,
        source.counters.decoder,
    )
    return Look(costs, last, busy)


def _whole_periods(frames: list[FrameCost]) -> list[FrameCost]:
    """From a frame that is processed up to where the next one would be: repeated, as many of them are processed. The
    first of all was decoded while the source was opened, so they begin behind it."""
    kept = [number for number, frame in enumerate(frames) if number and frame.prepare_ns is not None]
    return frames[kept[0] : kept[-1]] if len(kept) > 1 else frames
