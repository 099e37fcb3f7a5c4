# SPDX-License-Identifier: Apache-2.0
"""A stage and a detector that take as long, by a clock that somebody moves, as they did in a recording."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from pipeline.arrivals import Service, ServiceTimes
from pipeline.frame import Batch, Detections, Geometry, InputSpec, Picture, Uint8Array
from pipeline.protocols import Detector, Stage
from pipeline.replaying.ahead import Ahead
from pipeline.replaying.behind import MOST_FRAMES
from pipeline.replaying.simulated_clock import SimulatedClock
from pipeline.threads import Crew, Handed

_NOTHING: Final = Service(0, 0)


class Later:
    """Network inputs that are still to be made, by the array that they go into: only where somebody wants them."""

    def __init__(self) -> None:
        self._makers: dict[int, tuple[weakref.ref[Uint8Array], Callable[[Uint8Array], None]]] = {}

    def put(self, out: Uint8Array, make: Callable[[Uint8Array], None]) -> None:
        """Have ``make`` fill ``out`` when it is taken. What was to fill it before is nobody's any more."""
        key = id(out)
        gone = weakref.ref(out, lambda _: self._makers.pop(key, None))
        self._makers[key] = gone, make

    def make(self, out: Uint8Array) -> None:
        """Fill it, unless it is filled; raises StageError, each time."""
        found = self._makers.get(id(out))
        if found is not None:
            found[1](out)
            del self._makers[id(out)]


@runtime_checkable
class Foretelling(Protocol):
    """A stage that can tell where things will lie in an input before it makes it."""

    def geometry(self, picture: Picture, spec: InputSpec) -> Geometry:
        """What ``prepare`` will return; raises StageError as it would."""
        ...


class TimedStage:
    """A stage that ends when it did in the recording. The work is done when a batch takes its result, if one does.

    Args:
        stage: does it.
        source: knows when it ended.
        clock: the flow's.
        later: where the detector finds what is to be done; None: it is done at once.
    """

    def __init__(self, stage: Stage, source: Ahead, clock: SimulatedClock, later: Later | None = None) -> None:
        self._stage = stage
        self._source = source
        self._clock = clock
        self._later = later
        self._foretelling = stage if isinstance(stage, Foretelling) else None
        self._turn = threading.Lock()  # a stage has scratch memory, and two batches may hold frames of one stream

    def spec_for(self, picture: Picture, spec: InputSpec) -> InputSpec:
        """What the stage says."""
        return self._stage.spec_for(picture, spec)

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        """What the stage does, or will do."""
        if self._later is not None and self._foretelling is not None:
            geometry = self._foretelling.geometry(picture, spec)
            self._later.put(out, lambda into: self._prepare(picture, spec, into))
        else:
            geometry = self._stage.prepare(picture, spec, out)
        self._clock.set(self._source.ready_ns)
        return geometry

    def _prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> None:
        with self._turn:
            self._stage.prepare(picture, spec, out)


@dataclass(frozen=True, slots=True)
class TimedPending:
    """A batch that takes as long as one of its size took in the recording. An input that cannot be made raises
    StageError."""

    handed: Handed[Sequence[Detections]]
    clock: SimulatedClock
    began_ns: int
    service: Service
    limit_s: float

    @property
    def due_ns(self) -> int:
        """When its detections are there."""
        return self.began_ns + self.service.total_ns

    @property
    def device_ns(self) -> int:
        """How long the network worked on it: it began later than it was submitted where it had to wait for its turn."""
        return self.service.infer_ns

    def wait(self) -> None:
        """The network is done; raises ModelHung where it does not come back, and Closed once it was given up."""
        self.handed.result(self.limit_s)
        self.clock.set(self.began_ns + self.service.infer_ns)

    def result(self) -> Sequence[Detections]:
        """So are the detections."""
        self.clock.set(self.due_ns)
        return self.handed.result(self.limit_s)


class TimedDetector:
    """The detector, with the times of the recording; everything else about it is its own.

    Args:
        detector: run by a crew of threads, so that computing takes as little time as it can.
        threads: how many there are; it need not be as many as there are workers by the clock.
        clock: the flow's.
        services: how long a batch takes by that clock.
        later: inputs that are made when their batch begins.
        limit_s: how long one may really take.
    """

    depth = 1

    def __init__(
        self,
        detector: Detector,
        threads: int,
        clock: SimulatedClock,
        services: ServiceTimes,
        *,
        later: Later | None = None,
        limit_s: float = 60.0,
    ) -> None:
        self._detector = detector
        self._sizes: Sequence[int] = ()
        names = [f"detect:{thread}" for thread in range(threads)]
        self._crew: Crew[Sequence[Detections]] = Crew(names, self._get_ready, threads + MOST_FRAMES)
        self._clock = clock
        self._services = services
        self._later = later or Later()
        self._limit_s = limit_s
        self._newest = 0  # number of a batch
        self._free_ns = 0  # since when nobody is in, where one worker at a time is let in
        self.spec, self.labels, self.max_batch = detector.spec, detector.labels, detector.max_batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def warm(self, sizes: Sequence[int]) -> None:
        """Make its crew ready; raises what warming raised, and Closed once it was given up.

        One size shows that it can be done. That the first batch of another size takes longer is seen by nobody: how
        long it took is in the recording.
        """
        self._sizes = sizes[:1]
        self._crew.start()

    def submit(self, batch: Batch) -> TimedPending:
        """Start it; when it is done is known at once.

        What is left of a batch that failed takes no time: the whole of it has, and others were decided on by that.
        """
        is_new, self._newest = batch.number > self._newest, max(self._newest, batch.number)
        service = self._services.next(len(batch.items)) if is_new else _NOTHING
        began_ns = self._clock.now_ns()
        if getattr(self._detector, "exclusive", False):
            began_ns = max(began_ns, self._free_ns)
            self._free_ns = began_ns + service.total_ns

        def run() -> Sequence[Detections]:
            for item in batch.items:
                self._later.make(item.input)
            pending = self._detector.submit(batch)
            pending.wait()
            return pending.result()

        return TimedPending(self._crew.hand(run), self._clock, began_ns, service, self._limit_s)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._crew.give_up()

    def rest(self) -> bool:
        """No more batches will come: its crew goes home; False where one of them hangs."""
        return self._crew.rest()

    def close(self) -> None:
        """See :class:`pipeline.protocols.Detector`."""
        self._detector.close()

    def _get_ready(self) -> None:
        self._detector.warm(self._sizes)
