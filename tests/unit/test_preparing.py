# SPDX-License-Identifier: Apache-2.0
"""What a reader does with a decoded frame before anybody else sees it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import StageError
from pipeline.flow.batching import BatchScheduler
from pipeline.flow.lanes import Terms
from pipeline.flow.preparing import Preparer
from pipeline.flow.stream import TO_SINKS, Stream
from pipeline.frame import Capture, Geometry, InputSpec, Item, Outcome, Picture, StreamKey, Uint8Array
from pipeline.frame.buffers import BufferPool
from pipeline.ledger import StreamLedger
from pipeline.testing import CopyStage, ManualClock, ScriptedSource
from pipeline.timing import Mark, ended_in

MS = 1_000_000
EVERY = 40 * MS


class CountingStage(CopyStage):
    """Counts the inputs that it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.broken = False

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        if self.broken:
            raise StageError("no such plane")
        self.made += 1
        return super().prepare(picture, spec, out)


class Model:
    """A model whose workers take nothing by themselves."""

    spec = InputSpec(48, 64)
    labels: dict[int, str] = {}  # noqa: RUF012

    def __init__(self, clock: ManualClock, *, prepares: bool) -> None:
        self.buffers = BufferPool()
        self.scheduler = BatchScheduler(8, clock=clock)
        self.turns_away = self.scheduler.turns_away
        self._prepares = prepares

    def prepares(self, key: StreamKey) -> bool:
        return self._prepares and self.scheduler.loses(key)

    def offer(self, key: StreamKey, items: list[Item]) -> list[Item]:
        return self.scheduler.offer(key, items, fresh=items[0].make is not None)

    def leave(self, key: StreamKey) -> None:
        self.scheduler.close(key)


class Reader:
    """Prepares the frames of one stream, one each 40 ms of its own time."""

    def __init__(self, terms: Terms, *, paced: bool = True, workers_prepare: bool = False, parts: int = 1) -> None:
        self.clock = ManualClock()
        self.outcomes: list[Outcome] = []
        self.stage = CountingStage()
        self._preparer = Preparer(self.outcomes.append, self.clock.now_ns, TO_SINKS)
        self.stream = Stream(ScriptedSource([]), [self.stage] * parts, StreamLedger("a", paced=paced), terms=terms)
        self.stream.key = StreamKey("a", 1)
        self.stream.model = self.model = Model(self.clock, prepares=workers_prepare)
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


def test_a_stream_that_loses_frames_leaves_the_work_to_whoever_takes_them() -> None:
    reader = Reader(FRESHEST, workers_prepare=True)
    for _ in range(10):
        reader.frame(EVERY)
    assert reader.stage.made == 3  # two wait, and for the third the first gives way: from then on it loses
    assert [outcome.frame.index for outcome in reader.outcomes] == list(range(9))
    assert {outcome.dropped for outcome in reader.outcomes} == {"overflow"}
    assert reader.model.buffers.stats.in_use == 0  # what waits has none
    batch = reader.model.scheduler.poll(partial=True)
    assert batch is not None
    (item,) = batch.items
    assert item.frame.index == 9  # nothing older waits beside it
    assert item.frame.trace[Mark.PREPARED] == 0
    assert item.make is not None
    item.make(item)
    assert (reader.stage.made, item.input.shape) == (4, Model.spec.shape)
    assert item.geometry.source_width == 64


def test_once_nothing_is_lost_between_two_that_are_taken_the_reader_prepares_again() -> None:
    reader = Reader(FRESHEST, workers_prepare=True)
    for _ in range(4):
        reader.frame(EVERY)
    for _ in range(3):
        assert reader.model.scheduler.poll(partial=True) is not None
        reader.frame(EVERY)
    assert (
        reader.stage.made == 3 + 2
    )  # the first of the three came while the latest one taken had been preceded by a loss


def test_the_parts_of_a_frame_are_left_together_and_give_way_together() -> None:
    reader = Reader(FRESHEST, workers_prepare=True, parts=2)
    for _ in range(6):
        reader.frame(EVERY)
    assert reader.stage.made == 3 * 2
    lost = [(outcome.frame.index, outcome.part, outcome.of) for outcome in reader.outcomes]
    assert lost == [(frame, part, 2) for frame in range(5) for part in range(2)]


@pytest.mark.parametrize("left", [True, False])
def test_a_stage_that_fails_leaves_no_memory_on_loan(left: bool) -> None:
    reader = Reader(FRESHEST, workers_prepare=left)
    for _ in range(4):
        reader.frame(EVERY)
    on_loan = reader.model.buffers.stats.in_use
    reader.stage.broken = True
    reader.frame(EVERY)
    if left:
        batch = reader.model.scheduler.poll(partial=True)
        assert batch is not None
        (item,) = batch.items
        assert item.make is not None
        with pytest.raises(StageError, match="no such plane"):
            item.make(item)
    else:
        assert (reader.outcomes[-1].dropped, reader.outcomes[-1].why) == ("stage_error", "no such plane")
        assert ended_in(reader.outcomes[-1].frame.trace) == "preprocess"
    assert reader.model.buffers.stats.in_use == on_loan
