# SPDX-License-Identifier: Apache-2.0
"""A sample of live frames for a model that is not in use: its inputs, and what the model in use found in each.

One frame is under way at a time, and none while nobody asks for one: who compares decides what it costs. Streams take
turns: one that has given more than its share is passed over for a moment.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

from pipeline.frame import Detections, DropReason, Item
from pipeline.protocols import Model
from pipeline.timing import now_ns

PASSED_OVER_NS = 300_000_000
"""How long a frame of a stream that has given less than its share is waited for: that one may stand still."""


class Sample:
    """One frame, as an input of the second model.

    Attributes:
        stream, index: which frame.
        items: its inputs for the second model.
        found: what the model in use found in it, in source pixels; valid once ``settled``.
        dropped: why it was dropped instead; valid from then on as well.
        settled: set when the frame has left the model in use.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        frame = items[0].frame
        self.stream, self.index = frame.stream.name, frame.index
        self.items = tuple(items)
        self.found: Detections | None = None
        self.dropped: DropReason | None = None
        self.settled = threading.Event()

    def settle(self, found: Detections | None, dropped: DropReason | None) -> None:
        """The frame has left the model in use."""
        self.found, self.dropped = found, dropped
        self.settled.set()


class Shadow:
    """Where readers leave frames for a second model, and whoever runs that model takes them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._changed = threading.Condition()
        self._wanted = False  # somebody waits for a frame, and no reader has promised one
        self._promised = False  # a reader has, and prepares it
        self._sample: Sample | None = None
        self._failure: Exception | None = None
        self._since_ns = 0  # when that began
        self._known: set[str] = set()  # streams that deliver
        self._given: Counter[str] = Counter()  # frames so far, per stream
        self._closed = False

    # Readers

    def claim(self, stream: str) -> bool:
        """Whether the next frame of this stream is wanted; then :meth:`take` or :meth:`fail` must follow."""
        self._known.add(stream)
        if not self._wanted:  # read without the lock: it costs every frame next to nothing
            return False
        with self._changed:
            more_than_its_share = self._given[stream] * len(self._known) > self._given.total()
            if not self._wanted or (more_than_its_share and now_ns() - self._since_ns < PASSED_OVER_NS):
                return False
            self._wanted, self._promised = False, True
            self._given[stream] += 1
            return True

    def take(self, items: Sequence[Item]) -> None:
        """The inputs that were made of the frame that was claimed."""
        sample = Sample(items)
        items[0].frame.observer = sample.settle
        with self._changed:
            self._promised = False
            if not self._closed:
                self._sample = sample
                self._changed.notify_all()
                return
        self.release(sample)

    def fail(self, error: Exception) -> None:
        """No input could be made of the frame that was claimed."""
        with self._changed:
            self._promised = False
            self._failure = error
            self._changed.notify_all()

    # Whoever runs the second model

    def next(self, timeout_s: float) -> Sample | None:
        """The next frame; :meth:`release` must follow. None where none has come within ``timeout_s``.

        Raises what making its inputs raised.
        """
        with self._changed:
            if not (self._wanted or self._promised or self._sample):
                self._wanted, self._since_ns = True, now_ns()
            self._changed.wait_for(lambda: self._sample or self._failure, timeout_s)
            sample, self._sample = self._sample, None
            if self._failure is not None:
                raise self._failure
            return sample

    def release(self, sample: Sample) -> None:
        """Its inputs are no longer needed."""
        for item in sample.items:
            self.model.buffers.release(item.input)

    def close(self) -> None:
        """No more frames are wanted."""
        with self._changed:
            self._closed, self._wanted = True, False
            sample, self._sample = self._sample, None
        if sample is not None:
            self.release(sample)
