# SPDX-License-Identifier: Apache-2.0
"""A clock that somebody moves, and a stage and a detector that take as long by it as they did in a recording."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pipeline.arrivals import Service, ServiceTimes
from pipeline.crew import Crew, Handed
from pipeline.errors import InferenceError, StageError
from pipeline.frame import Batch, Detections, Geometry, InputSpec, Picture, Uint8Array
from pipeline.protocols import Detector, Stage
from pipeline.replaying.ahead import Ahead


class SimulatedClock:
    """Shows what it was set to.

    Args:
        now_ns: what it shows first.
        wall_offset_ns: wall time when it shows 0.
    """

    def __init__(self, now_ns: int, wall_offset_ns: int) -> None:
        self._now_ns = now_ns
        self._wall_offset_ns = wall_offset_ns

    def now_ns(self) -> int:
        """Virtual monotonic time."""
        return self._now_ns

    def wall_ns(self) -> int:
        """The wall time that belongs to it."""
        return self._wall_offset_ns + self._now_ns

    def set(self, now_ns: int) -> None:
        """It is ``now_ns``; for a moment it may be earlier, where marks of something that took time are made at its
        end."""
        self._now_ns = now_ns


class Later:
    """Network inputs that are still to be made, by the array that they go into: only where somebody wants them."""

    def __init__(self) -> None:
        self._makers: dict[int, tuple[weakref.ref[Uint8Array], Callable[[Uint8Array], None]]] = {}

    def put(self, out: Uint8Array, make: Callable[[Uint8Array], None]) -> None:
        """Have ``make`` fill ``out`` when it is taken. What was to fill it before is nobody's any more."""
        key = id(out)
        gone = weakref.ref(out, lambda _: self._makers.pop(key, None))
        self._makers[key] = gone, make

    def take(self, out: Uint8Array) -> Callable[[Uint8Array], None] | None:
        """What fills it; None where it is filled."""
        found = self._makers.pop(id(out), None)
        return None if found is None else found[1]


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
        self._turn = threading.Lock()  # a stage has scratch memory, and two batches may hold frames of one stream

    def spec_for(self, picture: Picture, spec: InputSpec) -> InputSpec:
        """What the stage says."""
        return self._stage.spec_for(picture, spec)

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        """What the stage does, or will do."""
        if self._later is not None and isinstance(self._stage, Foretelling):
            geometry = self._stage.geometry(picture, spec)
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
    """A batch that takes as long as one of its size took in the recording."""

    handed: Handed[Sequence[Detections]]
    clock: SimulatedClock
    began_ns: int
    service: Service
    limit_s: float

    @property
    def due_ns(self) -> int:
        """When its detections are there."""
        return self.began_ns + self.service.total_ns

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
        workers: how many there are.
        clock: the flow's.
        services: how long a batch takes by that clock.
        later: inputs that are made when their batch begins.
        limit_s: how long one may really take.
    """

    depth = 1

    def __init__(
        self,
        detector: Detector,
        workers: int,
        clock: SimulatedClock,
        services: ServiceTimes,
        *,
        later: Later | None = None,
        limit_s: float = 60.0,
    ) -> None:
        self._detector = detector
        self._crew: Crew[Sequence[Detections]] | None = None
        self._workers = [f"detect:{worker}" for worker in range(workers)]
        self._clock = clock
        self._services = services
        self._later = later or Later()
        self._limit_s = limit_s
        self.spec, self.labels, self.max_batch = detector.spec, detector.labels, detector.max_batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def warm(self, sizes: Sequence[int]) -> None:
        """Make its crew ready; raises what warming raised.

        One size shows that it can be done. That the first batch of another size takes longer is seen by nobody: how
        long it took is in the recording.
        """
        self._crew = Crew(self._workers, lambda: self._detector.warm(sizes[:1]))
        self._crew.start()

    def submit(self, batch: Batch) -> TimedPending:
        """Start it; when it is done is known at once."""
        assert self._crew is not None, "warm comes first"
        service = self._services.next(len(batch.items))
        makers = [(self._later.take(item.input), item.input) for item in batch.items]

        def run() -> Sequence[Detections]:
            try:
                for make, out in makers:
                    if make is not None:
                        make(out)
            except StageError as error:
                raise InferenceError(f"it could not be prepared: {error}") from error
            pending = self._detector.submit(batch)
            pending.wait()
            return pending.result()

        return TimedPending(self._crew.hand(run), self._clock, self._clock.now_ns(), service, self._limit_s)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        if self._crew is not None:
            self._crew.give_up()

    def rest(self) -> bool:
        """No more batches will come: its crew goes home; False where one of them hangs."""
        return self._crew is None or self._crew.rest()

    def close(self) -> None:
        """See :class:`pipeline.protocols.Detector`."""
        self._detector.close()
