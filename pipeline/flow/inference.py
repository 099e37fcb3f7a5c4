# SPDX-License-Identifier: Apache-2.0
"""The body of the detect loop: a batch goes in, one outcome per item comes out, whatever the detector does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter

from pipeline.complaints import Complaints
from pipeline.errors import InferenceError, StageError
from pipeline.figures import count
from pipeline.flow.batching import BatchScheduler
from pipeline.frame import Batch, Detections, DropReason, Item, Outcome
from pipeline.frame.buffers import BufferPool
from pipeline.ledger import BatchRun, Ledger
from pipeline.protocols import Detector, Pending
from pipeline.threads import Put

_QUEUED = attrgetter("queued_ns")


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A batch that was submitted at ``began_ns``, or what came of trying; None: none of its inputs could be made.
    ``making_ns``: how long those took that its worker made."""

    batch: Batch
    pending: Pending | InferenceError | None
    began_ns: int
    making_ns: int = 0


class BatchRunner:
    """Submits batches and completes them. Shared by all detect workers.

    Args:
        detector: runs them.
        scheduler: is told how long they took.
        buffers: where the memory of their inputs goes back to.
        ledger: counts them.
        emit: takes one outcome per item.
        now: monotonic nanoseconds.
        complaints: says which frames the detector failed on.

    Attributes:
        worker: who runs the batch, by name; a simulation has workers that are no threads.
    """

    def __init__(
        self,
        detector: Detector,
        scheduler: BatchScheduler,
        buffers: BufferPool,
        ledger: Ledger,
        emit: Put[Outcome],
        now: Callable[[], int],
        complaints: Complaints,
    ) -> None:
        self._detector = detector
        self._scheduler = scheduler
        self._buffers = buffers
        self._ledger = ledger
        self._emit = emit
        self._now = now
        self._complaints = complaints
        self.worker: Callable[[], str] = lambda: threading.current_thread().name
        self._since_ns: dict[int, int] = {}  # by thread: when the call that it is in began
        self._exclusive: bool = getattr(detector, "exclusive", False)
        self._ended_ns = 0  # when the latest call ended, of whichever thread

    def longest_ns(self) -> int:
        """For how long the oldest of the calls under way has been in the detector, or in a stage; 0 when there is none.

        Where calls take turns, the one whose turn it is began when the latest one ended, at the earliest: waiting for a
        turn is not hanging.
        """
        since_ns = min(list(self._since_ns.values()), default=None)
        if since_ns is None:
            return 0
        return self._now() - (max(since_ns, self._ended_ns) if self._exclusive else since_ns)

    def serve(self, batch: Batch | None) -> bool:
        """Submit and complete a batch, for whoever has nothing else to do meanwhile; False when there is none."""
        if batch is not None:
            self.complete(self.submit(batch))
        return batch is not None

    def submit(self, batch: Batch) -> UnderWay:
        """Prepare what readers have left to whoever takes it, and start a batch; never raises InferenceError."""
        making_ns = 0
        if any(item.make is not None for item in batch.items):
            with self._watched() as taken_ns:  # a stage may hang as well
                made = tuple(item for item in batch.items if self.prepare(item, batch))
            batch, making_ns = replace(batch, items=made, size=len(made)), self._now() - taken_ns
        with self._watched() as began_ns:
            try:
                pending = self._detector.submit(batch) if batch.items else None
                return UnderWay(batch, pending, began_ns, making_ns)
            except InferenceError as error:
                return UnderWay(batch, error, began_ns, making_ns)

    def prepare(self, item: Item, batch: Batch) -> bool:
        """See to it that the item of a batch has its input; False where that failed, and its frame is dropped."""
        if item.make is None:
            return True
        began_ns = self._now()
        try:
            item.make(item)
        except Exception as error:  # noqa: BLE001 - StageError, or whatever a plug-in raises; it costs this frame only
            marks = (*_waited(item, batch)[:3], began_ns, self._now())
            why = str(error) or type(error).__name__
            self._emit(Outcome(item.frame, dropped="stage_error", part=item.part, of=item.of, marks=marks, why=why))
            return False
        item.make, item.made_ns = None, (began_ns, self._now())
        return True

    def complete(self, under_way: UnderWay, *, told: bool = False) -> None:
        """Wait for a batch and emit its outcomes. A failing batch is split until the bad item is alone.

        ``told``: the scheduler knows already how long it took.
        """
        batch, pending = under_way.batch, under_way.pending
        if pending is None:
            return
        try:
            if isinstance(pending, InferenceError):
                raise pending
            with self._watched():
                pending.wait()
                inferred_ns = self._now()
                began_ns = _began_ns(under_way, pending, inferred_ns)
                found = pending.result()
            if len(found) != len(batch.items):
                raise InferenceError(
                    f"the detector returned {count(len(found), 'result')} for {count(len(batch.items), 'picture')}"
                )
        except (InferenceError, StageError) as error:
            self._split(under_way, error, told)
            return
        self._release(batch.items)
        in_source = [
            in_source_pixels(detections, item) if len(detections) else detections
            for item, detections in zip(batch.items, found, strict=True)
        ]
        parsed_ns = self._now()
        last = max(batch.items, key=_QUEUED)
        self._ledger.batch(
            BatchRun(
                self.worker(), batch.number, len(batch.items), began_ns, inferred_ns,
                parsed_ns, last.frame.stream.name, last.queued_ns, under_way.making_ns,
            )
        )  # fmt: skip
        if not told:
            waited_ns = began_ns - under_way.began_ns
            self._scheduler.served(len(batch.items), parsed_ns - began_ns + under_way.making_ns, waited_ns)
        times = (began_ns, inferred_ns, parsed_ns)
        self._emit(
            *(
                Outcome(item.frame, detections, part=item.part, of=item.of, marks=(*_waited(item, batch), *times))
                for item, detections in zip(batch.items, in_source, strict=True)
            )
        )

    def _split(self, under_way: UnderWay, error: InferenceError | StageError, told: bool) -> None:
        batch = under_way.batch
        if len(batch.items) > 1:
            middle = len(batch.items) // 2
            for half in (batch.items[:middle], batch.items[middle:]):
                self.complete(self.submit(replace(batch, items=half)), told=told)
            return
        (item,) = batch.items
        self._release(batch.items)
        waited, took = _waited(item, batch), (under_way.began_ns, self._now())
        reason: DropReason = "inference_error"
        if isinstance(error, StageError):  # the detector was to prepare it
            reason, waited = "stage_error", waited[:3]
        else:
            text = f"frame {item.frame.index}: {error}"
            self._complaints.say(logging.ERROR, item.frame.stream.name, "inference", text)
        marks = (*waited, *took)
        self._emit(Outcome(item.frame, dropped=reason, part=item.part, of=item.of, marks=marks, why=str(error)))

    @contextmanager
    def _watched(self) -> Iterator[int]:
        """Within it the calling thread counts for :meth:`longest_ns`; yields the time at which it began."""
        thread = threading.get_ident()
        began_ns = self._since_ns[thread] = self._now()
        try:
            yield began_ns
        finally:
            self._ended_ns = self._now()
            del self._since_ns[thread]

    def _release(self, items: tuple[Item, ...]) -> None:
        for item in items:
            self._buffers.release(item.input)


def _began_ns(under_way: UnderWay, pending: Pending, inferred_ns: int) -> int:
    """When the network began with a batch whose outputs have been there since ``inferred_ns``.

    Where a device works beside the worker, or one worker at a time is let in, another batch may have been before this
    one when it was submitted: then it is as long ago as this one was worked on, by the device's own clock where it has
    one.
    """
    device_ns: int | None = getattr(pending, "device_ns", None)
    return under_way.began_ns if device_ns is None else max(under_way.began_ns, inferred_ns - device_ns)


def _waited(item: Item, batch: Batch) -> tuple[int, ...]:
    """QUEUED to MADE of an item: it cannot have waited for others before it was there itself."""
    return item.queued_ns, max(item.queued_ns, batch.collected_ns), batch.sealed_ns, *item.made_ns


def in_source_pixels(detections: Detections, item: Item) -> Detections:
    """Back through the item's geometry; what lies wholly in the padding has no area in the picture and goes."""
    xyxy = item.geometry.to_source(detections.xyxy)
    seen = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    if seen.all():
        return replace(detections, xyxy=xyxy)
    return Detections(xyxy[seen], detections.confidence[seen], detections.class_id[seen])
