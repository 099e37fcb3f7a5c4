# SPDX-License-Identifier: Apache-2.0
"""Threads that run the network for a simulation, while it goes on: when a batch is done is not theirs to say."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

from pipeline.errors import ModelHung
from pipeline.frame import Batch, Detections
from pipeline.protocols import Detector
from pipeline.threads import Channel, Closed, WorkerGroup

REST_S = 5.0
"""How long the end of a simulation waits for its threads."""


class Handed:
    """A batch that was handed to the crew."""

    def __init__(self, batch: Batch, limit_s: float) -> None:
        self._batch = batch
        self._limit_s = limit_s
        self._done = threading.Event()
        self._found: Sequence[Detections] = ()
        self._error: BaseException | None = None

    def run(self, detector: Detector) -> None:
        """In one of the crew's threads."""
        try:
            pending = detector.submit(self._batch)
            pending.wait()
            self._found = pending.result()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            self._error = error
        self._done.set()

    def result(self) -> Sequence[Detections]:
        """Wait for what was found; raises what the detector raised, and ModelHung where it does not come back."""
        if not self._done.wait(self._limit_s):
            raise ModelHung(f"the model has not answered for {self._limit_s:g} s (model.timeout_s)")
        if self._error is not None:
            raise self._error
        return self._found


class Crew:
    """As many threads as the run had workers, each warmed as its workers were.

    Args:
        detector: what they run.
        size: how many they are.
        limit_s: longest that a batch may take from being handed over.
    """

    def __init__(self, detector: Detector, size: int, limit_s: float) -> None:
        self._detector = detector
        self._size = size
        self._limit_s = limit_s
        self._group = WorkerGroup()
        self._jobs: Channel[Handed] = Channel(size)

    def warm(self, sizes: Sequence[int]) -> None:
        """Start, and return when all are ready; raises what warming raised."""
        ready: Channel[BaseException | None] = Channel(self._size)

        def work() -> None:
            try:
                self._detector.warm(sizes)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for this one
                ready.put(error)
                return
            ready.put(None)
            with suppress(Closed):
                while True:
                    self._jobs.get().run(self._detector)

        for number in range(self._size):
            self._group.start(f"detect:{number}", work)
        failures = [ready.get() for _ in range(self._size)]
        for failure in filter(None, failures):
            self.rest()
            raise failure

    def hand(self, batch: Batch) -> Handed:
        """Have a batch run by whoever is free first."""
        handed = Handed(batch, self._limit_s)
        self._jobs.put(handed)
        return handed

    def rest(self) -> None:
        """Send them home; what they were handed is run before. One that hangs is left behind."""
        self._jobs.close()
        self._group.join(REST_S)
