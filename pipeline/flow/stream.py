# SPDX-License-Identifier: Apache-2.0
"""What the builder hands to the flow: one Stream per source, and how the loops are to meet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.flow.lanes import EVERY_FRAME, Terms
from pipeline.frame import Capture, DropReason, Result, StreamKey
from pipeline.ledger import StreamLedger
from pipeline.protocols import Follower, Model, Source, Stage, Tap
from pipeline.threads import Closed, Policy, StopFlag
from pipeline.timing import Lag

Witness = Callable[[list[int], DropReason | None], None]


def _every(capture: Capture) -> bool:
    return True


def unwatched(trace: list[int], dropped: DropReason | None) -> None:
    """A witness that does not care."""


@dataclass(slots=True, eq=False)
class Stream:
    """What to do with one source. Made by the builder, run once.

    Attributes:
        account: its ledger, named as the stream; it also says whether frames come at a pace of their own, and how long
            results are held then.
        terms: how it is served when the detector cannot serve all.
        stages: each makes one network input of a frame (one: the whole frame; several: tiles).
        keep: thinning after the decoder; frames that it refuses are decimated.
        gate: whether the detector should look at this frame; where it says no, only the follower sees it.
        limit: stop after this many decoded frames.
        drop_corrupt: frames that the decoder flagged as damaged are dropped, else only counted.
        follower: sees this stream's detections in order, before they are published.
        witness: is told by the follow loop what became of each frame, in order: its trace, and why it was dropped or
            None; must not wait.
        pause: holds the source (True) or lets it go on (False), from any thread; None where it cannot be held.
        wake: has the source try again at once, where it waits for a person's help; None where it never does.
    """

    source: Source
    stages: Sequence[Stage]
    account: StreamLedger
    terms: Terms = EVERY_FRAME
    keep: Callable[[Capture], bool] = _every
    gate: Callable[[Capture], bool] = _every
    limit: int | None = None
    drop_corrupt: bool = False
    follower: Follower | None = None
    witness: Witness = unwatched
    pause: Callable[[bool], None] | None = None
    wake: Callable[[], None] | None = None
    # Set by the pipeline
    key: StreamKey = field(default_factory=lambda: StreamKey("", 0))
    model: Model = field(init=False, repr=False)
    """Where its frames go, from when it has opened; changed between two frames, under the fence."""
    stop: StopFlag = field(default_factory=StopFlag)
    fence: threading.Lock = field(default_factory=threading.Lock)
    """Held while a frame is in the read loop's hands; free while the loop waits for its source."""
    preparing: threading.Lock = field(default_factory=threading.Lock)
    """Held while a stage prepares: its reader does, or a worker."""
    lag: Lag = field(default_factory=Lag)
    opened: bool = False
    ended: bool = False
    frames: int = 0
    """Frames that got a sequence number."""

    def check(self) -> None:
        """Raise Closed where the stream was ended meanwhile by somebody else; under the fence."""
        if self.ended:
            raise Closed

    def give_up(self) -> bool:
        """End it without its reader; False where it has ended, or it is not its source that the reader waits for."""
        if not self.fence.acquire(blocking=False):
            return False
        try:
            if self.ended:
                return False
            self.ended = True  # whatever its source returns one day is nobody's any more
            return True
        finally:
            self.fence.release()


class Nobody:
    """A tap that never looks."""

    def wants(self, stream: str) -> bool:
        """No."""
        return False

    def show(self, result: Result) -> None:
        """Nobody sees it."""


NOBODY = Nobody()


@dataclass(frozen=True, slots=True)
class Pictures:
    """Who wants the source's picture with its results: all sinks (``sinks``), and whoever looks through the tap."""

    sinks: bool
    tap: Tap

    def kept(self, stream: str) -> bool:
        """Whether the next frames of this stream are to keep their pictures."""
        return self.sinks or self.tap.wants(stream)


TO_SINKS = Pictures(sinks=True, tap=NOBODY)


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """How the loops meet.

    Attributes:
        batch_size: items per batch at most.
        fixed_batch: one batch size from the first frame to the last (recordings).
        max_wait_ms: upper bound of the wait for a fuller batch.
        workers: detect threads.
        parallel: streams open at once; None for all.
        outlet_policy: ``every_frame``: sinks hold the flow up; ``freshest``: a slow sink loses its own results.
        outlet_capacity: results that wait for one sink.
        required_sinks: names of sinks without which the run is worthless: the first result that one of them cannot keep
            ends it.
        ends_without_room: once every sink has lost something because the disk is full, the run ends: what it writes has
            gaps, and the whole of it is to be done again.
        tap: who looks at results as they are published.
    """

    batch_size: int = 8
    fixed_batch: bool = True
    max_wait_ms: float = 10.0
    workers: int = 1
    parallel: int | None = None
    outlet_policy: Policy = "every_frame"
    outlet_capacity: int = 16
    required_sinks: frozenset[str] = frozenset()
    ends_without_room: bool = False
    tap: Tap = NOBODY
