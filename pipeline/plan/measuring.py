# SPDX-License-Identifier: Apache-2.0
"""Decoding, preprocessing and the network, measured side by side, as they run side by side.

On every core that may be used one loop turns: it reads frames of a stream, prepares them, and shows them to the network
in batches of all sizes. So whatever is measured has the others beside it that it will have in a run, with their share
of caches, memory and clock rate. What is kept is CPU time: who had to wait for a core is the simulation's affair.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from pipeline.daemon.model import Loaded
from pipeline.errors import ModelHung
from pipeline.frame import Batch, Capture, Detections, Frame, Geometry, InputSpec, Item, StreamKey, Uint8Array
from pipeline.frame.buffers import BufferPool, aligned
from pipeline.plan.copies import Copy
from pipeline.plan.costs import BatchCost, NetworkCosts, StreamCosts
from pipeline.plan.looking import Busy, look
from pipeline.threads import Crew, Handed, StopFlag
from pipeline.timing import new_trace, now_ns, thread_cpu_ns

ENOUGH: Final = 6
"""Batches of each size, at least, as far as time allows."""
LEAST_S: Final = 0.3
"""Each stream is looked at for so long at least."""
_LOOK_S: Final = 0.2
"""How often it is looked whether the model answers."""
_KEPT: Final = 8
"""Inputs of each kind that are kept to be shown again."""
_GEOMETRY: Final = Geometry(1, 1, 1, 1)


@dataclass(slots=True)
class Measured:
    """What was measured of the parts.

    Attributes:
        streams: by name.
        network: of the model.
        captures: one frame of each stream, with its picture.
        detections: a usual number of them, in pixels of the network's input.
        free: share of the cores that this program had when it wanted them.
    """

    streams: dict[str, StreamCosts] = field(default_factory=dict)
    network: NetworkCosts = field(default_factory=NetworkCosts)
    captures: dict[str, Capture] = field(default_factory=dict)
    detections: Detections = field(default_factory=Detections.empty)
    free: float = 1.0


def batch_sizes(most: int) -> list[int]:
    """Which are measured: 1, 2, 4, 8, ... and the largest."""
    return sorted({size for size in (1 << power for power in range(16)) if size < most} | {most})


def measure(
    copies: Sequence[Copy],
    loaded: Loaded,
    cores: int,
    seconds: float,
    timeout_s: float,
    stop: StopFlag,
    say: Callable[[str], None],
) -> Measured:
    """Look at every copy, about ``seconds`` in all (:data:`LEAST_S` each in any case), and at the network.

    ``timeout_s``: a batch that takes longer means that the model hangs.

    Raises SourceError, StageError, ModelError; after ModelHung a thread is left in the model.
    """
    on_device = loaded.facts["device"] != "cpu"
    work = _Work(copies, loaded, stop, with_network=not on_device)

    def wait(handed: Handed[Any]) -> None:
        while not handed.wait(_LOOK_S):
            work.check_model(timeout_s)
        handed.result()

    work.network.threads = threads = _intra_op_threads(loaded, wait)
    loops = max(1, cores // threads)
    slice_s = max(LEAST_S, min(seconds, seconds * loops / len(copies)))
    _in_threads(loops, lambda: work.look_at_all(slice_s, say), stop, wait)
    say("measuring: the network")
    until_ns = now_ns() + int(seconds * 1e9)
    _in_threads(1 if on_device else loops, lambda: work.fill_up(until_ns, on_device=on_device), stop, wait)
    busy = work.busy
    free = min(1.0, busy.cpu_ns / busy.wall_ns) if busy.wall_ns else 1.0
    return Measured(work.streams, work.network, work.captures, work.detections, free)


class _Work:
    """What the loops share."""

    def __init__(self, copies: Sequence[Copy], loaded: Loaded, stop: StopFlag, *, with_network: bool) -> None:
        detector = loaded.detector
        self.streams: dict[str, StreamCosts] = {}
        self.captures: dict[str, Capture] = {}
        self.network = NetworkCosts()
        self.detections = Detections.empty()
        self.busy = Busy()
        self._copies = list(copies)
        self._left = list(copies)
        self._detector = detector
        self._sizes = batch_sizes(loaded.options.batch_size)
        self._with_network = with_network
        self._buffers = BufferPool(allocate=getattr(detector, "allocate", aligned))
        self._pictures: dict[InputSpec, list[Uint8Array]] = defaultdict(list)
        self._stop = stop
        self._lock = threading.Lock()
        self._looking = 0
        self._since_ns: dict[int, int] = {}  # by thread: when the batch began that it is in

    def check_model(self, limit_s: float) -> None:
        """Raise ModelHung where a batch takes longer."""
        began_ns = min(list(self._since_ns.values()), default=None)
        if began_ns is not None and (since_s := (now_ns() - began_ns) / 1e9) > limit_s:
            raise ModelHung(f"the model has not answered for {since_s:.0f} s (model.timeout_s is {limit_s:g})")

    def look_at_all(self, slice_s: float, say: Callable[[str], None]) -> None:
        """The body of a loop: one stream after the other. Who finds none left keeps its core busy with one that was
        looked at, until the others have done."""
        self._detector.warm(self._sizes)
        turn = 0
        while not self._stop.is_set():
            with self._lock:
                copy = self._left.pop(0) if self._left else None
                done = len(self._copies) - len(self._left) - self._looking - (copy is not None)
                self._looking += copy is not None
                if copy is None and not self._looking:
                    return
            if copy is not None:
                say(f"measuring: {copy.stream.name}, {done + 1} of {len(self._copies)}")
            try:
                self._look_at(copy or self._copies[turn % len(self._copies)], slice_s, counts=copy is not None)
            finally:
                with self._lock:
                    self._looking -= copy is not None
            turn += 1

    def _look_at(self, copy: Copy, slice_s: float, *, counts: bool) -> None:
        until_ns = now_ns() + int(slice_s * 1e9)
        began_ns = now_ns()
        network_ns = 0
        waiting: list[Uint8Array] = []
        sizes = list(self._sizes)

        def take(spec: InputSpec, pixels: Uint8Array) -> None:
            nonlocal network_ns
            waiting.append(pixels)
            if len(waiting) < sizes[0]:
                return
            if self._with_network and network_ns <= (now_ns() - began_ns) / 2:  # frames are to be looked at, too
                network_ns += self._run(spec, waiting)
                sizes.append(sizes.pop(0))
            self._keep(spec, waiting)
            waiting.clear()

        def more() -> bool:
            return now_ns() < until_ns and not self._stop.is_set() and (counts or bool(self._looking))

        seen = look(copy, self._detector.spec, self._buffers, take, more, self._stop)
        self._keep(seen.costs.spec, waiting)
        with self._lock:
            self.busy.add(seen.busy.cpu_ns, seen.busy.wall_ns)
            if counts:
                self.streams[copy.stream.name] = seen.costs
                self.captures[copy.stream.name] = seen.capture

    def fill_up(self, until_ns: int, *, on_device: bool) -> None:
        """The body of a loop: batches of the sizes that there are too few of, each once in any case."""
        self._detector.warm(self._sizes)
        for enough in (1, ENOUGH):
            for spec, pictures in self._pictures.items():
                for size in self._sizes:
                    while not self._stop.is_set() and self._count(spec, size) < enough:
                        if enough > 1 and now_ns() > until_ns:
                            return
                        shown = [pictures[number % len(pictures)] for number in range(size)]
                        self._run(spec, shown, on_device=on_device)

    def _count(self, spec: InputSpec, size: int) -> int:
        with self._lock:
            return len(self.network.samples.get(spec, {}).get(size, ()))

    def _run(self, spec: InputSpec, pictures: Sequence[Uint8Array], *, on_device: bool = False) -> int:
        """One batch; returns its wall time."""
        began_ns, before_ns, thread = now_ns(), thread_cpu_ns(), threading.get_ident()
        self._since_ns[thread] = began_ns
        try:
            found = self._detector.submit(batch_of(spec, pictures)).result()
        finally:
            del self._since_ns[thread]
        cpu_ns, wall_ns = thread_cpu_ns() - before_ns, now_ns() - began_ns
        with self._lock:
            rest_ns = max(0, wall_ns - cpu_ns)
            cost = BatchCost(cpu_ns, rest_ns, 0) if on_device else BatchCost(cpu_ns, 0, rest_ns)
            self.network.add(spec, len(pictures), cost)
            self.detections = max(self.detections, *found, key=len)
            if not on_device and self.network.threads == 1:
                self.busy.add(cpu_ns, wall_ns)
        return wall_ns

    def _keep(self, spec: InputSpec, pictures: Sequence[Uint8Array]) -> None:
        with self._lock:
            kept = self._pictures[spec]
            for pixels in pictures:
                if len(kept) < _KEPT:
                    kept.append(pixels)
                else:
                    self._buffers.release(pixels)


def batch_of(spec: InputSpec, pictures: Sequence[Uint8Array]) -> Batch:
    """Network inputs as a batch of nobody's frames."""
    frame = Frame(StreamKey("plan", 0), 0, 0, 0.0, None, 0, spec.width, spec.height, None, new_trace())
    return Batch(tuple(Item(frame, spec, pixels, _GEOMETRY) for pixels in pictures), len(pictures), 0)


def _intra_op_threads(loaded: Loaded, wait: Callable[[Handed[int]], None]) -> int:
    """Of a batch, as the detector sets them in each thread that runs it."""

    def asked() -> int:
        loaded.detector.warm([1])
        return torch.get_num_threads()

    crew: Crew[int] = Crew(["measure"])
    crew.start()
    handed = crew.hand(asked)
    wait(handed)
    crew.rest()
    return handed.result()


def _in_threads(count: int, body: Callable[[], None], stop: StopFlag, wait: Callable[[Handed[None]], None]) -> None:
    """Run it so many times side by side; the first failure stops all, and is raised. A thread that hangs is left
    behind."""
    crew: Crew[None] = Crew([f"measure:{number}" for number in range(count)])
    crew.start()
    try:
        for handed in [crew.hand(body) for _ in range(count)]:
            wait(handed)
    except BaseException:
        stop.set()
        raise
    finally:
        crew.rest()
