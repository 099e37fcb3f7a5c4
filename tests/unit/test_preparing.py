# SPDX-License-Identifier: Apache-2.0
"""What a reader does with a decoded frame before anybody else sees it."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from pipeline.batching import BatchScheduler
from pipeline.complaints import Complaints
from pipeline.frame import Capture, Geometry, InputSpec, Item, Outcome, Picture, StreamKey, Uint8Array
from pipeline.lanes import Terms
from pipeline.ledger import StreamLedger
from pipeline.memory import BufferPool
from pipeline.preparing import Preparer
from pipeline.stream import TO_SINKS, Stream
from pipeline.testing import CopyStage, ManualClock, ScriptedSource
from pipeline.timing import Mark, ended_in

MS = 1_000_000
EVERY = 40 * MS


class CountingStage(CopyStage):
    """Counts the inputs that it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        self.made += 1
        return super().prepare(picture, spec, out)


class Model:
    """A model whose workers take nothing by themselves."""

    spec = InputSpec(48, 64)
    labels: dict[int, str] = {}  # noqa: RUF012

    def __init__(self, clock: ManualClock) -> None:
        self.buffers = BufferPool()
        self.scheduler = BatchScheduler(8, clock=clock)
        self.turns_away = self.scheduler.turns_away

    def offer(self, key: StreamKey, items: list[Item]) -> list[Item]:
        return self.scheduler.offer(key, items)

    def leave(self, key: StreamKey) -> None:
        self.scheduler.close(key)


class Reader:
    """Prepares the frames of one stream, one each 40 ms of its own time."""

    def __init__(self, terms: Terms, *, paced: bool = True) -> None:
        self.clock = ManualClock()
        self.outcomes: list[Outcome] = []
        self.stage = CountingStage()
        complaints = Complaints(logging.getLogger("pipeline"), self.clock)
        self._preparer = Preparer(self.outcomes.append, self.clock.now_ns, complaints, TO_SINKS)
        self.stream = Stream(ScriptedSource([]), [self.stage], StreamLedger("a", paced=paced), terms=terms)
        self.stream.key = StreamKey("a", 1)
        self.stream.model = self.model = Model(self.clock)
        self.model.scheduler.open(self.stream.key, terms)
        self._frames = 0

    def frame(self, takes_ns: int) -> None:
        """The next frame, ``takes_ns`` after the one before."""
        self.clock.advance(takes_ns)
        now_ns = self.clock.now_ns()
        picture = Picture((np.zeros((48, 64), np.uint8),), "gray")
        capture = Capture(picture, self._frames, self._frames * EVERY / 1e9, now_ns, now_ns, None)
        self._preparer.prepare(self.stream, capture, self._frames, True)
        self._frames += 1


FRESHEST = Terms(policy="freshest")


def test_a_reader_that_keeps_up_prepares_everything_and_the_oldest_gives_way() -> None:
    reader = Reader(FRESHEST)
    for _ in range(5):
        reader.frame(EVERY)
    assert reader.stage.made == 5
    assert [outcome.frame.index for outcome in reader.outcomes] == [0, 1, 2]


def test_one_that_is_behind_prepares_nothing_for_a_full_lane_until_it_has_caught_up() -> None:
    reader = Reader(FRESHEST)
    for takes_ms in (40, 40, 40, 90, 10, 10, 40):  # 3 is 50 ms late, 4 is 20, 5 and 6 are not
        reader.frame(takes_ms * MS)
    assert reader.stage.made == 6
    assert [outcome.frame.index for outcome in reader.outcomes] == [0, 3, 1, 2, 4]
    turned_away = reader.outcomes[1].frame
    assert reader.outcomes[1].dropped == "overflow"
    assert ended_in(turned_away.trace) == "scheduler"
    assert (turned_away.trace[Mark.PREPARE], turned_away.trace[Mark.PREPARED]) == (0, 0)
    assert reader.model.buffers.stats.in_use == 2  # those that wait


def test_an_empty_lane_gets_its_frame_however_late_it_is() -> None:
    reader = Reader(FRESHEST)
    for _ in range(10):
        reader.frame(3 * EVERY)
        assert reader.model.scheduler.poll(partial=True) is not None
    assert reader.stage.made == 10
    assert reader.outcomes == []


@pytest.mark.parametrize("paced", [True, False])
def test_a_recording_that_is_read_as_fast_as_it_is_used_is_never_behind(paced: bool) -> None:
    reader = Reader(FRESHEST, paced=paced)
    for _ in range(10):
        reader.frame(3 * EVERY)
    assert reader.stage.made == (2 if paced else 10)
