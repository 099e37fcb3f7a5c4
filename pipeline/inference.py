# SPDX-License-Identifier: Apache-2.0
"""The body of the detect loop: a batch goes in, one outcome per item comes out, whatever the detector does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.batching import BatchScheduler
from pipeline.errors import InferenceError
from pipeline.frame import Batch, Item, Outcome
from pipeline.ledger import Ledger
from pipeline.memory import BufferPool
from pipeline.protocols import Detector, Pending

log = logging.getLogger("pipeline")


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A batch that was submitted, or what came of trying."""

    batch: Batch
    pending: Pending | InferenceError
    began_ns: int


class BatchRunner:
    """Submits batches and completes them. Shared by all detect workers; holds no state of its own."""

    def __init__(
        self,
        detector: Detector,
        scheduler: BatchScheduler,
        buffers: BufferPool,
        ledger: Ledger,
        emit: Callable[[Outcome], object],
        now: Callable[[], int],
    ) -> None:
        self._detector = detector
        self._scheduler = scheduler
        self._buffers = buffers
        self._ledger = ledger
        self._emit = emit
        self._now = now

    def submit(self, batch: Batch) -> UnderWay:
        """Start a batch; never raises InferenceError."""
        began_ns = self._now()
        try:
            return UnderWay(batch, self._detector.submit(batch), began_ns)
        except InferenceError as error:
            return UnderWay(batch, error, began_ns)

    def complete(self, under_way: UnderWay) -> None:
        """Wait for a batch and emit its outcomes. A failing batch is split until the bad item is alone."""
        batch, pending = under_way.batch, under_way.pending
        try:
            if isinstance(pending, InferenceError):
                raise pending
            pending.wait()
            inferred_ns = self._now()
            found = pending.result()
            if len(found) != len(batch.items):
                raise InferenceError(f"the detector returned {len(found)} results for {len(batch.items)} pictures")
        except InferenceError as error:
            self._split(batch, error)
            return
        self._release(batch.items)
        in_source_pixels = [
            replace(detections, xyxy=item.geometry.to_source(detections.xyxy)) if len(detections) else detections
            for item, detections in zip(batch.items, found, strict=True)
        ]
        parsed_ns = self._now()
        self._ledger.batch(len(batch.items))
        self._scheduler.served(parsed_ns - under_way.began_ns)
        marks = (under_way.began_ns, inferred_ns, parsed_ns)
        for item, detections in zip(batch.items, in_source_pixels, strict=True):
            self._emit(Outcome(item.frame, detections, part=item.part, of=item.of, marks=marks))

    def _split(self, batch: Batch, error: InferenceError) -> None:
        if len(batch.items) > 1:
            middle = len(batch.items) // 2
            for half in (batch.items[:middle], batch.items[middle:]):
                self.complete(self.submit(replace(batch, items=half)))
            return
        (item,) = batch.items
        log.error("%s frame %d: %s", item.frame.stream.name, item.frame.index, error)
        self._release(batch.items)
        self._emit(Outcome(item.frame, dropped="inference_error", part=item.part, of=item.of))

    def _release(self, items: tuple[Item, ...]) -> None:
        for item in items:
            self._buffers.release(item.input)
