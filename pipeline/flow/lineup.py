# SPDX-License-Identifier: Apache-2.0
"""Which model serves which frames: the one in use, and those that still have what was queued for them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from pipeline.flow.deployment import Deployment
from pipeline.flow.preparing import Preparer
from pipeline.flow.shadow import Shadow
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.protocols import Detector
from pipeline.threads import Closed
from pipeline.timing import now_ns

FENCE_S = 0.05
"""How long a stream's fence is waited for before the next stream's turn: its reader may have to wait for space."""
MOVES_S = 30.0
"""How long all streams may take to come to the end of a frame. One that does not, as a stage of its hangs, keeps the
model that it has until the next swap."""


class Lineup:
    """The models at work. Thread-safe.

    Args:
        first: the detector to begin with.
        options: how it is run; ``batch_size``, ``fixed_batch``, ``max_wait_ms`` and ``workers`` matter here.
        make: a deployment of a detector, with its running number.
        preparer: what readers prepare frames with.
        emptied: called by the last worker of the last model.

    Attributes:
        current: where the frames of streams go that open now.
        aborted: :meth:`abort` was called.
    """

    def __init__(
        self,
        first: Detector,
        options: FlowOptions,
        make: Callable[[Detector, FlowOptions, int], Deployment],
        preparer: Preparer,
        emptied: Callable[[], object],
    ) -> None:
        self.current = make(first, options, 1)
        self.aborted = False
        self._make = make
        self._made = 1
        self._preparer = preparer
        self._emptied = emptied
        self._lock = threading.Lock()
        self._at_work = [self.current]
        self._finished = False

    @property
    def at_work(self) -> tuple[Deployment, ...]:
        """The one in use, and those before it that still have something to serve; the oldest first."""
        with self._lock:
            return tuple(self._at_work)

    def deploy(self, detector: Detector, options: FlowOptions) -> Deployment:
        """A second model with workers of its own, to be warmed, compared, and switched to or dismissed."""
        with self._lock:
            self._made += 1
            return self._make(detector, options, self._made)

    @contextmanager
    def compare(self, model: Deployment) -> Iterator[Shadow]:
        """For as long as it lasts, readers prepare frames for ``model`` as well, when they are asked for one."""
        self._preparer.shadow = shadow = Shadow(model)
        try:
            yield shadow
        finally:
            if self._preparer.shadow is shadow:  # another comparison may have begun, if the model hung in this one
                self._preparer.shadow = None
            shadow.close()

    def switch(self, new: Deployment, streams: Callable[[], Iterable[Stream]]) -> Deployment | None:
        """Give all frames to ``new`` from now on, each stream between two of its frames.

        Returns the model before it: it serves what was queued for it, then it is closed (``ended``). None where
        everything ends anyway: then nothing was changed. ``streams``: those that are open, or are about to be.
        """
        with self._lock:
            if self._finished or self.aborted:
                return None
            old, self.current = self.current, new
            self._at_work.append(new)
        new.begin()
        left = list(streams())  # those that open from now on go to the new one
        until_ns = now_ns() + int(MOVES_S * 1e9)
        while left and not self.aborted and now_ns() < until_ns:
            left = [stream for stream in left if not self._moved(stream, new)]
        old.scheduler.finish()
        if old.inline:
            with suppress(Closed):
                while old.runner.serve(old.scheduler.poll(partial=True)):
                    pass
            self.left(old)
        return old

    def _moved(self, stream: Stream, new: Deployment) -> bool:
        if not stream.fence.acquire(timeout=FENCE_S):
            return False
        try:
            if stream.opened and not stream.ended and stream.model is not new:
                before = stream.model
                new.enter(stream)
                before.leave(stream.key)
        finally:
            stream.fence.release()
        return True

    def left(self, model: Deployment) -> None:
        """A worker of ``model`` has gone home. The last one of a model that was swapped out closes it."""
        with self._lock:
            model.working -= 1
            if model.working:
                return
            self._at_work.remove(model)
            last = not self._at_work
        if model is not self.current:
            model.close()
        if last:
            self._emptied()

    def finish(self) -> None:
        """No more streams will come: once what is queued is served, the workers go home."""
        with self._lock:
            self._finished = True
            models = tuple(self._at_work)
        for model in models:
            model.scheduler.finish()

    def abort(self) -> None:
        """Wake everybody who waits at a scheduler with Closed."""
        with self._lock:
            self.aborted = True
            models = tuple(self._at_work)
        for model in models:
            model.scheduler.abort()

    def longest_ns(self) -> int:
        """For how long the oldest of the calls under way has been in a detector."""
        return max((model.runner.longest_ns() for model in self.at_work), default=0)

    def waiting(self) -> dict[str, int]:
        """Items that wait, by the name of the stream."""
        counts: Counter[str] = Counter()
        for model in self.at_work:
            counts.update(model.scheduler.waiting_per_stream())
        return dict(counts)
