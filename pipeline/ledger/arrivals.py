# SPDX-License-Identifier: Apache-2.0
"""How steadily a stream's frames arrive, by the host's clock and by the stream's own time stamps."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.ledger.drift import Drift
from pipeline.ledger.stats import stats
from pipeline.measures import ONE, Histogram, IntervalJitter, Intervals, SmoothedChange, in_order
from pipeline.timing import thread_cpu_ns

Int64Array = npt.NDArray[np.int64]

_BLOCK: Final = 256
_SLOT_NS: Final = 10_000_000_000


def by_epoch(epochs: Int64Array) -> Iterator[tuple[int, slice]]:
    """The epochs of successive frames, and which frames are of each."""
    bounds = [0, *(np.flatnonzero(epochs[1:] != epochs[:-1]) + 1).tolist(), len(epochs)]
    for begin, end in pairwise(bounds):
        yield int(epochs[begin]), slice(begin, end)


class Behind:
    """How much later frames were read than the promptest of the last 10 to 20 s.

    The delay that all of them share cannot be known unless the camera says when it captured them. What comes on top is
    the network, and packets that wait until their reader has a core; it lies before a frame's first mark. Drift shows
    as well, as far as it goes in that time.

    Attributes:
        histogram: nanoseconds.
    """

    def __init__(self) -> None:
        self.histogram = Histogram()
        self._slot = 0
        self._least_ns: list[int] = []  # transit of this slot and of the one before

    def add(self, read_ns: Int64Array, transits_ns: Int64Array) -> None:
        """Add frames of the same epoch: (n,) when each was read, and that less its pts."""
        slots = read_ns // _SLOT_NS
        for slot in sorted(set(slots.tolist())):
            some_ns = transits_ns[slots == slot]
            if slot != self._slot or not self._least_ns:
                self._slot, self._least_ns = slot, [*self._least_ns[-1:], int(some_ns[0])]
            self._least_ns[-1] = min(self._least_ns[-1], int(some_ns.min()))
            self.histogram.record_all(some_ns - min(self._least_ns))

    def reset(self) -> None:
        """Time stamps begin anew."""
        self._least_ns = []


class Camera:
    """What frames tell of their camera. Not locked.

    Attributes:
        intervals, gaps: between arrivals, within connections.
        behind: see there.
        drift: see :mod:`pipeline.ledger.drift`.
    """

    def __init__(self) -> None:
        self.intervals = Intervals()
        self.gaps = IntervalJitter()
        self.behind = Behind()
        self.drift = Drift()
        self._epoch = 0
        self._newest_ns = np.zeros(1, np.int64)

    def add(self, frames: Int64Array) -> None:
        """Add frames, (n, 3): when each was read, its pts, and its epoch."""
        for epoch, rows in by_epoch(frames[:, 2]):
            if epoch != self._epoch:  # what lies between two epochs is not an interval of the camera's
                self.intervals.reset()
                self.gaps.reset()
                self.behind.reset()
                self.drift = Drift()
                self._epoch = epoch
            read_ns = frames[rows, 0]
            arrived_ns = in_order(read_ns[:, None], ONE, [self._newest_ns])
            self.intervals.add(arrived_ns[:, 0])
            self.gaps.add(arrived_ns, nominal_ns=self.intervals.histogram.percentile(50))
            self.behind.add(read_ns, read_ns - frames[rows, 1])
            self.drift.add(frames[rows, :2])


class Arrivals:
    """Every frame that the decoder delivers, of streams that come at a pace of their own.

    The read loop only appends; the work is done for whoever asks, or at every 256th frame. Jitter, which is asked for
    often, does not wait for the rest, and is worked out for many streams together.

    Attributes:
        lock, held: for :mod:`pipeline.ledger.holding`: while it is held, nothing is taken apart.
        cpu_ns: CPU time that this took.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[int, int, int]] = []
        self.lock = threading.RLock()
        self.held = False
        self._transit = SmoothedChange()
        self._newest_ns = 0  # when the last frame was read
        self._reordered = False
        self._epoch = 0
        self._camera = Camera()
        self._left: list[Int64Array] = []  # what the camera's figures lack
        self._frames_left = 0
        self.cpu_ns = 0

    def add(self, read_ns: int, pts_ns: int, epoch: int) -> None:
        """A frame was read at ``read_ns`` (monotonic) with ``pts_ns``; called by the read loop, which never waits."""
        self._pending.append((read_ns, pts_ns, epoch))
        if len(self._pending) >= _BLOCK and self.lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self.lock.release()

    @property
    def jitter_ns(self) -> float | None:
        """Interarrival jitter (RFC 3550, section 6.4.1), or None before the second frame, and of a feed with B-frames:
        what these are shown out of the order in which they came would count, and is not the network's."""
        with self.lock:
            self._fold()
            known = self._transit.known[0] and not self._reordered
            return float(self._transit.value_ns[0]) if known else None

    def as_dict(self, declared_fps: float | None) -> dict[str, Any]:
        """What the camera says of itself, and what is true of it.

        ``{"declared_fps", "measured_fps", "drift_ppm", "drift_error_ppm", "freezes", "largest_gap_ms", "behind"}``:
        frames that the decoder delivered per second of a connection; by how much the camera's clock (pts) is fast
        against the host's, and how far off that may be; gaps between arrivals within a connection that are freezes by
        WebRTC's rule, and the largest; STATS of :class:`Behind`. None where there is too little to tell.
        """
        with self.lock:
            self._look_closer()
            intervals = self._camera.intervals.histogram
            measured = round(intervals.count * 1e9 / intervals.total, 3) if intervals.total else None
            drift, error = self._camera.drift.ppm or (None, None)
            behind = stats(self._camera.behind.histogram)
            freezes, largest_ns = int(self._camera.gaps.freezes[0]), int(self._camera.gaps.largest_ns[0])
        declared = None if declared_fps is None else round(declared_fps, 3)
        return {
            "declared_fps": declared,
            "measured_fps": measured,
            "drift_ppm": drift,
            "drift_error_ppm": error,
            "freezes": freezes if intervals.count else None,
            "largest_gap_ms": round(largest_ns / 1e6, 6) if intervals.count else None,
            "behind": behind,
        }

    def _look_closer(self) -> None:
        """Also for what the frames tell of the camera; under the lock."""
        self._fold()
        if self._left:
            began_ns = thread_cpu_ns()
            self._look_at_what_was_left()
            self.cpu_ns += thread_cpu_ns() - began_ns

    def _look_at_what_was_left(self) -> None:
        left, self._left, self._frames_left = self._left, [], 0
        self._camera.add(np.concatenate(left))

    def _fold(self) -> None:
        """Under the lock."""
        if not self.held and self._pending:
            take_apart([self])

    def _take(self) -> list[tuple[int, int, int]]:
        taken = self._pending[: len(self._pending)]
        del self._pending[: len(taken)]  # more may have come meanwhile
        return taken

    def _leave(self, frames: Int64Array) -> None:
        """For later: a whole block of them is looked at at once."""
        self._left.append(frames)
        self._frames_left += len(frames)
        if self._frames_left >= _BLOCK:
            self._look_at_what_was_left()

    def _begin(self, epoch: int) -> SmoothedChange:
        if epoch != self._epoch:  # what lies between two epochs is not jitter of the camera's
            self._transit.reset()
            self._reordered = False
            self._epoch = epoch
        return self._transit

    def _came(self, read_ns: Int64Array) -> None:
        """Frames of the present epoch that were read then, in the order in which they are shown."""
        self._reordered = self._reordered or bool(read_ns[0] < self._newest_ns or (read_ns[1:] < read_ns[:-1]).any())
        self._newest_ns = int(read_ns[-1])


def take_apart(many: Sequence[Arrivals]) -> None:
    """What has arrived of all of ``many``, together; under their locks."""
    began_ns = thread_cpu_ns()
    taken = [(each, some) for each in many if (some := each._take())]
    if not taken:
        return
    frames = np.array([frame for _, some in taken for frame in some], np.int64)
    transits_ns = (frames[:, 0] - frames[:, 1])[:, None]
    ends = np.array([len(some) for _, some in taken]).cumsum()
    spans = list(pairwise([0, *ends.tolist()]))
    epochs = frames[:, 2]
    if all(epochs[begin] == epochs[end - 1] for begin, end in spans):  # they only grow
        changes = [each._begin(int(epochs[begin])) for (each, _), (begin, _) in zip(taken, spans, strict=True)]
        SmoothedChange.add_each(changes, transits_ns, None, np.array([begin for begin, _ in spans]))
        for (each, _), (begin, end) in zip(taken, spans, strict=True):
            each._came(frames[begin:end, 0])
    else:
        for (each, _), (begin, end) in zip(taken, spans, strict=True):
            for epoch, rows in by_epoch(epochs[begin:end]):
                each._begin(epoch).add(transits_ns[begin:end][rows])
                each._came(frames[begin:end, 0][rows])
    for (each, _), (begin, end) in zip(taken, spans, strict=True):
        each._leave(frames[begin:end].copy())
    spent_ns = thread_cpu_ns() - began_ns
    for (each, _), (begin, end) in zip(taken, spans, strict=True):
        each.cpu_ns += spent_ns * (end - begin) // len(frames)
