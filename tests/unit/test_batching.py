# SPDX-License-Identifier: Apache-2.0
"""The scheduler: when batches are sealed, who is in them, and what a full lane does."""

from __future__ import annotations

import gc
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

from pipeline.flow.batching import BatchScheduler
from pipeline.flow.lanes import Lane, Terms
from pipeline.flow.sealing import PATIENCE
from pipeline.frame import Frame, Geometry, InputSpec, Item, StreamKey
from pipeline.testing import ManualClock
from pipeline.threads import Closed
from pipeline.timing import new_trace
from tests.background import Background, until

SPEC = InputSpec(8, 8)
OTHER = InputSpec(16, 16)
MS = 1_000_000
FRESHEST = Terms(policy="freshest")


def key(name: str) -> StreamKey:
    return StreamKey(name, 1)


def item(name: str, sequence: int = 0, spec: InputSpec = SPEC, frame: Frame | None = None, part: int = 0) -> Item:
    frame = frame or Frame(key(name), sequence, sequence, 0.0, None, 0, 8, 8, None, new_trace())
    return Item(frame, spec, np.empty(spec.shape, np.uint8), Geometry(8, 8, 1, 1), part)


def names(batch_items: tuple[Item, ...]) -> list[str]:
    return [entry.frame.stream.name for entry in batch_items]


class TestFixedBatches:
    def test_nothing_is_sealed_before_the_batch_is_full(self) -> None:
        scheduler = BatchScheduler(4, fixed=True, lane_capacity=4)
        scheduler.open(key("a"))
        for sequence in range(3):
            scheduler.offer(key("a"), [item("a", sequence)])
        assert scheduler.poll() is None
        scheduler.offer(key("a"), [item("a", 3)])
        batch = scheduler.poll()
        assert batch is not None
        assert [entry.frame.sequence for entry in batch.items] == [0, 1, 2, 3]
        assert batch.size == 4

    def test_the_tail_is_padded_once_all_lanes_have_ended(self) -> None:
        scheduler = BatchScheduler(4, fixed=True)
        scheduler.open(key("a"))
        scheduler.offer(key("a"), [item("a")])
        scheduler.close(key("a"))
        assert scheduler.poll() is None  # another stream may still come
        scheduler.finish()
        batch = scheduler.poll()
        assert batch is not None
        assert (len(batch.items), batch.size) == (1, 4)
        with pytest.raises(Closed):
            scheduler.poll()

    def test_a_lane_takes_its_capacity_and_no_more_once_a_batch_is_full(self) -> None:
        scheduler = BatchScheduler(1, fixed=True, lane_capacity=3)
        scheduler.open(key("a"))
        for sequence in range(3):
            Background(partial(scheduler.offer, key("a"), [item("a", sequence)])).result()
        Background(lambda: scheduler.offer(key("a"), [item("a", 3)])).parked()
        assert scheduler.waiting == 3
        scheduler.abort()

    def test_a_lane_takes_more_than_its_capacity_while_no_batch_is_full(self) -> None:
        scheduler = BatchScheduler(5, fixed=True, lane_capacity=1)
        scheduler.open(key("a"))
        for sequence in range(5):  # would block for ever if one lane alone could not fill a batch
            Background(partial(scheduler.offer, key("a"), [item("a", sequence)])).result()
        batch = scheduler.poll()
        assert batch is not None
        assert len(batch.items) == 5


def teach(scheduler: BatchScheduler, saved_ms: int) -> None:
    """Batches have taken ``saved_ms``, and 10 ms for each item."""
    for items in (1, 2, 3):
        scheduler.served(items, (saved_ms + 10 * items) * MS)


class TestLiveBatches:
    def scheduler(self, clock: ManualClock, **options: int) -> BatchScheduler:
        scheduler = BatchScheduler(4, clock=clock, **options)
        for name in ("a", "b"):
            scheduler.open(key(name), FRESHEST)
        return scheduler

    def test_the_first_frames_do_not_wait(self) -> None:
        scheduler = self.scheduler(ManualClock())
        scheduler.offer(key("a"), [item("a")])
        batch = scheduler.poll()
        assert batch is not None
        assert (names(batch.items), batch.size) == (["a"], 1)  # partial, not padded

    def deliver(self, scheduler: BatchScheduler, clock: ManualClock, saved_ms: int = 20) -> None:
        """Both streams deliver every 40 ms; whatever is in it, a batch costs ``saved_ms``, and 10 ms for each item."""
        for sequence in range(3):
            for name in ("a", "b"):
                scheduler.offer(key(name), [item(name, sequence)])
            scheduler.poll()
            clock.advance(40 * MS)
        if saved_ms:
            teach(scheduler, saved_ms)

    def test_a_batch_goes_as_soon_as_every_delivering_stream_is_present(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock)
        self.deliver(scheduler, clock)
        scheduler.offer(key("a"), [item("a", 3)])
        assert scheduler.poll() is None
        scheduler.offer(key("b"), [item("b", 3)])
        batch = scheduler.poll()
        assert batch is not None
        assert names(batch.items) == ["a", "b"]

    @pytest.mark.parametrize(
        ("max_wait_ms", "saved_ms", "waits_ms"), [(100, 20, 10), (4, 20, 4), (100, 3, 3), (100, 11, 10)]
    )
    def test_the_oldest_item_waits_a_quarter_interval_or_max_wait_or_as_long_as_a_fuller_batch_saves(
        self, max_wait_ms: int, saved_ms: int, waits_ms: int
    ) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock, max_wait_ns=max_wait_ms * MS)
        self.deliver(scheduler, clock, saved_ms)
        scheduler.offer(key("a"), [item("a", 3)])
        clock.advance(waits_ms * MS - 1)
        assert scheduler.poll() is None
        clock.advance(1)
        batch = scheduler.poll()
        assert batch is not None
        assert names(batch.items) == ["a"]

    def test_nobody_waits_before_it_is_known_what_a_fuller_batch_saves(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock, max_wait_ns=100 * MS)
        self.deliver(scheduler, clock, saved_ms=0)
        for _ in range(5):
            scheduler.served(2, 40 * MS)  # no other size
        scheduler.offer(key("a"), [item("a", 3)])
        assert scheduler.poll() is not None

    def test_nobody_waits_where_a_fuller_batch_saves_nothing(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock, max_wait_ns=100 * MS)
        self.deliver(scheduler, clock, saved_ms=0)
        for items in (1, 2, 1, 2):
            scheduler.served(items, 10 * items * MS)
        scheduler.offer(key("a"), [item("a", 3)])
        assert scheduler.poll() is not None

    def test_nobody_waits_while_another_worker_is_free(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock, max_wait_ns=100 * MS)
        self.deliver(scheduler, clock)
        workers = [Background(scheduler.take).parked() for _ in range(2)]
        scheduler.offer(key("a"), [item("a", 3)])
        until(lambda: scheduler.waiting == 0, "the batch of one")
        scheduler.offer(key("b"), [item("b", 3)])
        clock.advance(10 * MS)  # now one is left, and waits
        assert sorted(names(worker.result().items) for worker in workers) == [["a"], ["b"]]

    def test_the_quickest_stream_bounds_the_wait(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock, max_wait_ns=100 * MS)
        for sequence in range(9):  # a every 16 ms, b every 48 ms
            scheduler.offer(key("a"), [item("a", sequence)])
            if sequence % 3 == 0:
                scheduler.offer(key("b"), [item("b", sequence)])
            scheduler.poll()
            clock.advance(16 * MS)
        teach(scheduler, 40)
        scheduler.offer(key("a"), [item("a", 9)])
        clock.advance(4 * MS - 1)
        assert scheduler.poll() is None
        clock.advance(1)
        assert scheduler.poll() is not None

    def test_the_interval_of_a_stream_is_smoothed(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock, max_wait_ns=100 * MS)
        for sequence, gap_ms in enumerate((40, 80, 70)):  # 40, then 40 + (80 - 40) / 8 = 45
            for name in ("a", "b"):
                scheduler.offer(key(name), [item(name, sequence)])
            scheduler.poll()
            clock.advance(gap_ms * MS)
        teach(scheduler, 100)
        scheduler.offer(key("a"), [item("a", 3)])
        clock.advance(45 * MS // 4 - 1)
        assert scheduler.poll() is None
        clock.advance(1)
        assert scheduler.poll() is not None

    def test_a_stream_that_ended_is_not_waited_for(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock)
        self.deliver(scheduler, clock)
        scheduler.offer(key("a"), [item("a", 3)])
        assert scheduler.poll() is None
        scheduler.close(key("b"))
        assert scheduler.poll() is not None

    def test_batches_are_numbered(self) -> None:
        scheduler = self.scheduler(ManualClock())
        numbers = []
        for sequence in range(3):
            scheduler.offer(key("a"), [item("a", sequence)])
            batch = scheduler.poll()
            assert batch is not None
            numbers.append(batch.number)
        assert numbers == [1, 2, 3]

    def test_a_stream_is_waited_for_until_it_was_silent_for_two_of_its_intervals(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock)
        self.deliver(scheduler, clock)  # b came last 40 ms ago
        for sequence, waits in [(3, True), (4, True), (5, False)]:
            scheduler.offer(key("a"), [item("a", sequence)])
            assert (scheduler.poll() is None) == waits
            clock.advance(10 * MS)
            assert (scheduler.poll() is not None) == waits
            clock.advance(30 * MS)

    def test_freshest_pushes_out_the_oldest_whole_frame(self) -> None:
        scheduler = BatchScheduler(8, clock=ManualClock(), lane_capacity=1)
        scheduler.open(key("a"), FRESHEST)
        tiles = [item("a", 0)]
        tiles.append(item("a", frame=tiles[0].frame, part=1))
        assert scheduler.offer(key("a"), tiles) == []
        newer = [item("a", 1), item("a", 1)]
        newer[1] = item("a", frame=newer[0].frame, part=1)
        assert scheduler.offer(key("a"), newer) == tiles
        assert scheduler.waiting == 2


class TestTurnedAway:
    """A reader that is behind asks whether its frame is worth preparing."""

    def test_where_the_lane_is_full_and_then_where_it_is_half_full(self) -> None:
        scheduler = BatchScheduler(8, clock=ManualClock())
        scheduler.open(key("a"), FRESHEST)
        answers = []
        for sequence in range(3):
            answers.append(scheduler.turns_away(key("a")))
            if not answers[-1]:
                scheduler.offer(key("a"), [item("a", sequence)])
        assert answers == [False, False, True]  # a lane holds two
        scheduler.poll(partial=True)
        scheduler.offer(key("a"), [item("a", 3)])
        assert scheduler.turns_away(key("a"))  # it has lost one lately

    def test_parts_of_a_frame_count_once(self) -> None:
        scheduler = BatchScheduler(8, clock=ManualClock())
        scheduler.open(key("a"), Terms(4, "freshest"))
        scheduler.open(key("b"), FRESHEST)  # so the lane of a holds four
        answers = []
        for sequence in range(5):
            answers.append(scheduler.turns_away(key("a"), parts=2))
            first = item("a", sequence)
            scheduler.offer(key("a"), [first, item("a", frame=first.frame, part=1)])
        assert answers == [False, False, False, False, True]

    def test_every_frame_is_never_turned_away(self) -> None:
        scheduler = BatchScheduler(8, clock=ManualClock(), lane_capacity=1)
        scheduler.open(key("a"))
        scheduler.offer(key("a"), [item("a")])
        assert not scheduler.turns_away(key("a"))

    def test_it_counts_as_a_loss_and_as_a_delivery(self) -> None:
        """So the stream is owed its share of the next batches, and others are not served in its place."""
        clock = ManualClock()
        scheduler = BatchScheduler(4, clock=clock, lane_capacity=1)
        for name in ("a", "b"):
            scheduler.open(key(name), FRESHEST)
            scheduler.offer(key(name), [item(name)])
        clock.advance(40 * MS)
        assert scheduler.turns_away(key("a"))
        lane = scheduler._waiting.open[key("a")]
        assert (lane.lost, lane.interval_ns) == (True, 40 * MS)


class TestSpecs:
    def test_a_batch_holds_one_spec(self) -> None:
        scheduler = BatchScheduler(4, clock=ManualClock())
        scheduler.open(key("a"))
        scheduler.open(key("b"))
        scheduler.offer(key("a"), [item("a", 0)])
        scheduler.offer(key("b"), [item("b", 0, OTHER)])
        first, second = scheduler.poll(), scheduler.poll()
        assert first is not None
        assert second is not None
        assert (first.spec, second.spec) == (SPEC, OTHER)

    def test_every_spec_fills_its_own_batches(self) -> None:
        """Each of two lanes may hold a batch of its own spec, so no batch is padded because the other lane is full."""
        scheduler = BatchScheduler(4, fixed=True, lane_capacity=1)
        for name, spec in (("a", SPEC), ("b", OTHER)):
            scheduler.open(key(name))
            for sequence in range(4):  # would block for ever if all lanes together were limited to a batch
                Background(partial(scheduler.offer, key(name), [item(name, sequence, spec)])).result()
        assert [len(scheduler.take().items) for _ in range(2)] == [4, 4]

    def test_the_oldest_item_gives_way_to_full_batches_but_not_for_ever(self) -> None:
        scheduler = BatchScheduler(2, fixed=True)
        for name in ("a", "b"):
            scheduler.open(key(name))
        scheduler.offer(key("b"), [item("b", 0, OTHER)])
        scheduler.close(key("b"))  # its only frame never fills a batch
        for sequence in range(2):
            scheduler.offer(key("a"), [item("a", sequence)])
        specs = []
        for sequence in range(PATIENCE + 2):
            specs.append(scheduler.take().spec)
            if specs[-1] == SPEC:
                for more in range(2):
                    scheduler.offer(key("a"), [item("a", 2 * sequence + more + 2)])
        assert specs == [SPEC] * PATIENCE + [OTHER, SPEC]

    def test_blocked_lanes_of_different_specs_do_not_deadlock(self) -> None:
        scheduler = BatchScheduler(4, fixed=True, lane_capacity=1)

        def work() -> list[int]:
            sizes = []
            with suppress(Closed):
                while True:
                    sizes.append(len(scheduler.take().items))
            return sizes

        def produce(name: str, spec: InputSpec) -> None:
            for sequence in range(9):
                scheduler.offer(key(name), [item(name, sequence, spec)])
            scheduler.close(key(name))

        worker = Background(work)
        specs = {"a": SPEC, "b": OTHER}
        for name in specs:
            scheduler.open(key(name))
        for producer in [Background(partial(produce, name, spec)) for name, spec in specs.items()]:
            producer.result()
        scheduler.finish()
        assert sum(worker.result()) == 18


class TestWaking:
    """Whoever waits is woken by the one event that it waits for, and by nothing later."""

    def test_a_frame_wakes_a_worker_for_a_partial_batch(self) -> None:
        scheduler = BatchScheduler(4)
        scheduler.open(key("a"), FRESHEST)
        worker = Background(scheduler.take).parked()
        scheduler.offer(key("a"), [item("a")])
        assert names(worker.result().items) == ["a"]

    def test_the_frame_that_fills_a_fixed_batch_wakes_a_worker(self) -> None:
        scheduler = BatchScheduler(2, fixed=True)
        scheduler.open(key("a"))
        worker = Background(scheduler.take).parked()
        scheduler.offer(key("a"), [item("a", 0)])
        scheduler.offer(key("a"), [item("a", 1)])
        assert len(worker.result().items) == 2

    def test_a_worker_that_waits_for_others_wakes_at_the_deadline_by_itself(self) -> None:
        clock = ManualClock()
        scheduler = BatchScheduler(4, clock=clock)
        for name in ("a", "b"):
            scheduler.open(key(name), FRESHEST)
        for sequence in range(2):
            for name in ("a", "b"):
                scheduler.offer(key(name), [item(name, sequence)])
            scheduler.poll()
            clock.advance(40 * MS)
        teach(scheduler, 20)
        scheduler.offer(key("a"), [item("a", 2)])
        worker = Background(scheduler.take).parked()
        clock.advance(10 * MS)  # nothing else happens
        assert names(worker.result().items) == ["a"]

    @pytest.mark.parametrize("fixed", [True, False])
    def test_a_worker_that_leaves_a_full_batch_wakes_the_next_one(self, fixed: bool) -> None:
        scheduler = BatchScheduler(2, fixed=fixed, clock=ManualClock())
        scheduler.open(key("a"))
        workers = [Background(scheduler.take).parked() for _ in range(2)]
        first = item("a")
        tiles = [first, *(item("a", frame=first.frame, part=part) for part in range(1, 4))]
        scheduler.offer(key("a"), tiles)  # one frame, two batches
        batches = sorted((worker.result() for worker in workers), key=lambda batch: batch.number)
        assert [[entry.part for entry in batch.items] for batch in batches] == [[0, 1], [2, 3]]

    def test_the_rest_of_a_frame_is_not_left_lying_while_a_worker_is_free(self) -> None:
        scheduler = BatchScheduler(2, clock=ManualClock())
        scheduler.open(key("a"), FRESHEST)
        workers = [Background(scheduler.take).parked() for _ in range(2)]
        first = item("a")
        scheduler.offer(key("a"), [first, *(item("a", frame=first.frame, part=part) for part in (1, 2))])
        assert sorted(len(worker.result().items) for worker in workers) == [1, 2]

    def test_a_batch_makes_room_for_a_producer(self) -> None:
        scheduler = BatchScheduler(1, fixed=True, lane_capacity=1)
        scheduler.open(key("a"))
        scheduler.offer(key("a"), [item("a", 0)])
        producer = Background(lambda: scheduler.offer(key("a"), [item("a", 1)])).parked()
        assert scheduler.waiting == 1
        assert scheduler.poll() is not None
        assert producer.result() == []
        assert scheduler.waiting == 1

    def test_the_last_producer_to_block_wakes_a_worker_for_a_partial_batch(self) -> None:
        """Pictures that change size all the time: full lanes, and no spec that fills a batch."""
        scheduler = BatchScheduler(4, fixed=True, lane_capacity=1)
        for name in ("a", "b"):
            scheduler.open(key(name))
            for sequence, spec in enumerate([SPEC, OTHER, OTHER, SPEC] if name == "b" else [SPEC, OTHER] * 2):
                scheduler.offer(key(name), [item(name, sequence, spec)])
        worker = Background(scheduler.take).parked()  # neither spec fills a batch, and more may come
        producers = [Background(lambda: scheduler.offer(key("a"), [item("a", 4)])).parked()]
        producers.append(Background(lambda: scheduler.offer(key("b"), [item("b", 4)])))
        batch = worker.result()
        assert names(batch.items) == ["a", "b"]
        assert (batch.size, batch.spec) == (4, SPEC)
        for producer in producers:
            assert producer.result() == []
        assert scheduler.poll() is None  # nobody is blocked any more, so full batches may come again

    def test_the_end_of_a_stream_that_leaves_only_blocked_ones_wakes_a_worker(self) -> None:
        scheduler = BatchScheduler(4, fixed=True, lane_capacity=1)
        for name in ("a", "b"):
            scheduler.open(key(name))
        for sequence in range(4):
            scheduler.offer(key("a"), [item("a", sequence, OTHER if sequence % 2 else SPEC)])
        scheduler.offer(key("b"), [item("b", 0, OTHER)])
        producer = Background(lambda: scheduler.offer(key("a"), [item("a", 4)])).parked()
        worker = Background(scheduler.take).parked()
        scheduler.close(key("b"))
        assert names(worker.result().items) == ["a"]
        assert producer.result() == []

    @pytest.mark.parametrize("last", ["close", "finish"])
    def test_the_end_of_everything_wakes_every_worker(self, last: str) -> None:
        scheduler = BatchScheduler(4, fixed=True)
        scheduler.open(key("a"))
        scheduler.offer(key("a"), [item("a")])
        first, second = scheduler.finish, partial(scheduler.close, key("a"))
        if last == "finish":
            first, second = second, first
        first()
        workers = [Background(scheduler.take).parked() for _ in range(3)]
        second()
        ends: list[int | str] = []
        for worker in workers:
            try:
                ends.append(len(worker.result().items))
            except Closed:
                ends.append("closed")
        assert sorted(ends, key=str) == [1, "closed", "closed"]

    def test_a_lane_that_ends_empty_leaves_the_others_their_turns(self) -> None:
        scheduler = BatchScheduler(4, clock=ManualClock())
        scheduler.open(key("a"), FRESHEST)
        scheduler.open(key("b"), FRESHEST)
        scheduler.close(key("a"))
        scheduler.close(key("a"))  # said twice, it does no harm
        scheduler.offer(key("b"), [item("b")])
        batch = scheduler.poll()
        assert batch is not None
        assert names(batch.items) == ["b"]
        scheduler.open(key("a"), FRESHEST)  # the same key may come again


class TestEnds:
    def test_abort_wakes_every_blocked_producer_and_every_waiting_worker(self) -> None:
        full, empty = BatchScheduler(2, fixed=True, lane_capacity=1), BatchScheduler(1)
        calls = []
        for name in ("a", "b"):
            full.open(key(name))
            full.offer(key(name), [item(name)])
            calls.append(Background(empty.take).parked())
        for name in ("a", "b"):
            calls.append(Background(partial(full.offer, key(name), [item(name, 1)])).parked())
        assert len(full.abort()) == 2
        assert empty.abort() == []
        for call in calls:
            with pytest.raises(Closed):
                call.result()

    def test_after_an_abort_nothing_is_taken_or_given(self) -> None:
        scheduler = BatchScheduler(2, fixed=True, lane_capacity=2)
        for name in ("a", "b"):
            scheduler.open(key(name))
        first = item("a", 0)
        scheduler.offer(key("a"), [first])
        scheduler.offer(key("b"), [item("b", 0)])
        scheduler.close(key("b"))  # ended, but what it holds is still there
        assert not scheduler.aborted
        assert [entry.frame.stream.name for entry in scheduler.abort()] == ["a", "b"]
        assert (scheduler.aborted, scheduler.waiting) == (True, 0)
        for call in (scheduler.take, scheduler.poll, lambda: scheduler.offer(key("a"), [item("a", 1)])):
            with pytest.raises(Closed):
                call()
        assert scheduler.abort() == []

    def test_what_a_closed_lane_holds_is_still_served(self) -> None:
        scheduler = BatchScheduler(8, clock=ManualClock())
        scheduler.open(key("a"))
        scheduler.offer(key("a"), [item("a")])
        scheduler.close(key("a"))
        scheduler.finish()
        batch = scheduler.poll()
        assert batch is not None
        assert len(batch.items) == 1

    @pytest.mark.parametrize("frames", [0, 1])
    def test_a_lane_that_has_ended_and_is_served_is_let_go(self, frames: int) -> None:
        scheduler = BatchScheduler(1, clock=ManualClock())
        ended = key("ended long ago")
        scheduler.open(ended)
        for _ in range(frames):
            scheduler.offer(ended, [item("a")])
        scheduler.close(ended)
        for _ in range(frames):
            assert scheduler.poll() is not None
        holders = [kept for kept in gc.get_objects() if isinstance(kept, Lane) and kept.key is ended]
        assert holders == []  # a run over thousands of files stays small

    def test_bad_arguments(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            BatchScheduler(0)
        scheduler = BatchScheduler(1)
        with pytest.raises(ValueError, match="weight"):
            scheduler.open(key("a"), Terms(weight=0))
        scheduler.open(key("a"))
        with pytest.raises(ValueError, match="open already"):
            scheduler.open(key("a"))
