# SPDX-License-Identifier: Apache-2.0
"""Who is served when the detector cannot serve all: shares, deadlines, and frames that are too old."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.flow.batching import BatchScheduler
from pipeline.flow.lanes import Terms
from pipeline.frame import Batch, Frame, Geometry, InputSpec, Item, StreamKey
from pipeline.testing import ManualClock
from pipeline.threads import Closed
from pipeline.timing import Mark, new_trace
from tests.background import Background

SPEC = InputSpec(8, 8)
PIXELS = np.empty(SPEC.shape, np.uint8)
MS = 1_000_000


def key(name: str) -> StreamKey:
    return StreamKey(name, 1)


def item(name: str, sequence: int = 0, read_ns: int = 0, frame: Frame | None = None, part: int = 0) -> Item:
    if frame is None:
        frame = Frame(key(name), sequence, sequence, 0.0, None, 0, 8, 8, None, new_trace())
        frame.trace[Mark.READ] = read_ns
    return Item(frame, SPEC, PIXELS, Geometry(8, 8, 1, 1), part)


def names(batch: Batch | None) -> list[str]:
    return [] if batch is None else [entry.frame.stream.name for entry in batch.items]


def freshest(weight: int = 1, budget_ms: int | None = None, staleness_ms: int | None = None) -> Terms:
    budget, staleness = (None if value is None else value * MS for value in (budget_ms, staleness_ms))
    return Terms(weight, "freshest", budget, staleness)


def jain(shares: list[float]) -> float:
    """Fairness of shares, 1 where all are equal (R. Jain, 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


class TestShares:
    @given(
        weights=st.lists(st.integers(1, 5), min_size=2, max_size=7),
        max_size=st.integers(1, 9),
        seed=st.integers(0, 2**32 - 1),
    )
    @settings(max_examples=60, deadline=None)
    def test_no_frame_waits_for_more_than_its_share_of_others(
        self, weights: list[int], max_size: int, seed: int
    ) -> None:
        """Streams come and go at random, the first is always there: before a waiting frame, of another stream j at most
        ``ceil(w_j / w_i) + 1`` are served."""
        rng = np.random.default_rng(seed)
        scheduler = BatchScheduler(max_size, clock=ManualClock(), lane_capacity=max_size + max(weights))
        for index, weight in enumerate(weights):
            scheduler.open(key(str(index)), freshest(weight))
        before: dict[int, Counter[int]] = {}  # of each stream's oldest frame: who was served since it is the oldest
        waiting: Counter[int] = Counter()
        for number in range(60):
            for index in range(len(weights)):
                if index == 0 or rng.random() < 0.7:
                    lost = scheduler.offer(key(str(index)), [item(str(index), number)])
                    waiting[index] += 1 - len(lost)
                    before.setdefault(index, Counter())
            for name in map(int, names(scheduler.poll())):
                waiting[name] -= 1
                before.pop(name, None)
                if waiting[name]:
                    before[name] = Counter()
                for index, counts in before.items():
                    if index != name:
                        counts[name] += 1
                        assert counts[name] <= math.ceil(weights[name] / weights[index]) + 1, (name, index)

    def test_contended_batches_are_shared_by_weight(self) -> None:
        weights = {"a": 1, "b": 2, "c": 5}
        scheduler = BatchScheduler(3, clock=ManualClock(), lane_capacity=20)
        for name, weight in weights.items():
            scheduler.open(key(name), freshest(weight))
        served: Counter[str] = Counter()
        for sequence in range(800):
            for name in weights:
                for _ in range(3):
                    scheduler.offer(key(name), [item(name, sequence)])
            served.update(names(scheduler.poll()))
        assert {name: round(8 * count / served.total(), 1) for name, count in served.items()} == weights

    def test_what_a_stream_did_not_use_is_gone(self) -> None:
        scheduler = BatchScheduler(1, clock=ManualClock(), lane_capacity=100)
        for name in ("a", "b"):
            scheduler.open(key(name), freshest())
        for sequence in range(50):  # b is silent meanwhile
            scheduler.offer(key("a"), [item("a", sequence)])
            assert names(scheduler.poll()) == ["a"]
        for sequence in range(20):
            for name in ("a", "b"):
                scheduler.offer(key(name), [item(name, sequence)])
        assert Counter(name for _ in range(10) for name in names(scheduler.poll())) == {"a": 5, "b": 5}

    def test_of_equal_claims_the_older_goes_first(self) -> None:
        clock = ManualClock()
        scheduler = BatchScheduler(1, clock=clock)
        for name in ("a", "b"):
            scheduler.open(key(name), freshest())
        for sequence in range(3):
            scheduler.offer(key("b"), [item("b", sequence)])
            clock.advance(MS)
            scheduler.offer(key("a"), [item("a", sequence)])
            assert [*names(scheduler.poll()), *names(scheduler.poll())] == ["b", "a"]


class Overloaded:
    """Cameras and a detector in simulated time: each frame costs the detector ``cost_ms``, a batch 5 ms more."""

    def __init__(self, rates: dict[str, float], terms: dict[str, Terms], cost_ms: float, workers: int = 1) -> None:
        self.clock = ManualClock()
        self.rates, self.cost_ms, self.workers = rates, cost_ms, workers
        self.shed: list[Item] = []
        self.scheduler = BatchScheduler(8, clock=self.clock, shed=self.shed.append)
        for name in rates:
            self.scheduler.open(key(name), terms.get(name, freshest()))
        self.served: Counter[str] = Counter()
        self.ages_ms: list[float] = []

    def run(self, seconds: float) -> None:
        start_ns = now_ns = self.clock.now_ns()
        next_ns = {
            name: start_ns + round(i * 1e9 / rate / len(self.rates))
            for i, (name, rate) in enumerate(self.rates.items())
        }
        busy: list[tuple[int, Batch, int]] = []  # when it ends, what, since when
        while now_ns < start_ns + seconds * 1e9:
            while len(busy) < self.workers and (batch := self.scheduler.poll()) is not None:
                took_ns = round((5 + self.cost_ms * len(batch.items)) * MS)
                busy.append((now_ns + took_ns, batch, now_ns))
            coming = min(next_ns, key=next_ns.__getitem__)
            ending = min(busy, key=lambda each: each[0], default=None)
            upto_ns = min([next_ns[coming], now_ns + 5 * MS, *([ending[0]] if ending else [])])
            self.clock.advance(upto_ns - now_ns)
            now_ns = upto_ns
            if ending is not None and now_ns >= ending[0]:
                busy.remove(ending)
                self.scheduler.served(len(ending[1].items), ending[0] - ending[2])
                self.served.update(names(ending[1]))
                self.ages_ms += [(now_ns - each.frame.trace[Mark.READ]) / MS for each in ending[1].items]
            if now_ns >= next_ns[coming]:
                self.scheduler.offer(key(coming), [item(coming, read_ns=now_ns)])
                next_ns[coming] += round(1e9 / self.rates[coming])


class TestOverload:
    """Lanes hold two frames, so that they stay fresh: shares must hold all the same."""

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("streams", [2, 4, 8])
    def test_equal_streams_get_the_same(self, streams: int, workers: int) -> None:
        cameras = Overloaded({f"c{i}": 20.0 for i in range(streams)}, {}, 150.0 / streams, workers)
        cameras.run(30)
        assert jain([cameras.served[name] for name in cameras.rates]) > 0.999

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize(
        "weights", [{"a": 4, "b": 1, "c": 1, "d": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 16, "b": 4, "c": 4, "d": 1}]
    )
    def test_weighted_streams_get_their_share(self, weights: dict[str, int], workers: int) -> None:
        """Three times as much is offered as can be done, and each stream has enough for its share."""
        total = sum(weights.values())
        capacity = 25.0 * workers  # about: what batches cost besides is not known before
        rates = {name: 3.0 * capacity * max(weight / total, 0.1) for name, weight in weights.items()}
        cameras = Overloaded(rates, {name: freshest(weight) for name, weight in weights.items()}, 30.0, workers)
        cameras.run(60)
        for name, weight in weights.items():
            assert cameras.served[name] / cameras.served.total() == pytest.approx(weight / total, rel=0.1), name

    def test_what_one_does_not_need_the_others_get(self) -> None:
        cameras = Overloaded({"slow": 2.0, "fast": 50.0, "faster": 80.0}, {"slow": freshest(16)}, 30.0)
        cameras.run(30)
        assert cameras.served["slow"] == pytest.approx(60, abs=3)
        assert cameras.served["fast"] == pytest.approx(cameras.served["faster"], rel=0.03)
        assert cameras.served.total() > 30 / 0.035 * 0.95  # and the detector is never idle

    def test_ages_are_bounded_and_do_not_grow(self) -> None:
        cameras = Overloaded({f"c{i}": 15.0 for i in range(8)}, {}, 25.0)
        cameras.run(30)
        third = len(cameras.ages_ms) // 3
        first, last = (float(np.percentile(part, 95)) for part in (cameras.ages_ms[:third], cameras.ages_ms[-third:]))
        service_ms, interval_ms = 5 + 8 * 25.0, 1000 / 15
        assert last <= 2 * (service_ms + interval_ms)
        assert last <= 1.05 * first

    def test_rates_recover_when_load_falls(self) -> None:
        cameras = Overloaded({"a": 40.0, "b": 40.0}, {}, 30.0)
        cameras.run(20)
        assert cameras.served["a"] < 400
        cameras.rates = {"a": 10.0, "b": 10.0}
        cameras.served.clear()
        cameras.run(5)
        assert cameras.served == {"a": 50, "b": 50} or min(cameras.served.values()) >= 49


class TestDeadlines:
    def scheduler(self, clock: ManualClock, **terms: Terms) -> BatchScheduler:
        """Streams that deliver every 400 ms, so that a frame is waited for 100 ms; a batch takes 150 ms."""
        scheduler = BatchScheduler(8, clock=clock, max_wait_ns=1000 * MS)
        for name, each in terms.items():
            scheduler.open(key(name), each)
        for sequence in range(3):
            for name in terms:
                scheduler.offer(key(name), [item(name, sequence, clock.now_ns())])
            scheduler.poll()
            clock.advance(400 * MS)
        for items in (1, 3):
            scheduler.served(items, 150 * MS)  # so to be two in one batch saves as much
        return scheduler

    def test_the_earliest_deadline_seals_the_batch(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock, a=freshest(), b=freshest(budget_ms=200), c=freshest())
        scheduler.offer(key("a"), [item("a", 3, clock.now_ns())])
        scheduler.offer(key("b"), [item("b", 3, clock.now_ns())])
        clock.advance(50 * MS - 1)  # of its 200 ms it needs 150 for the batch
        assert scheduler.poll() is None
        clock.advance(1)
        assert names(scheduler.poll()) == ["a", "b"]

    def test_without_a_budget_it_waits_longer(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock, a=freshest(), b=freshest(), c=freshest())
        scheduler.offer(key("a"), [item("a", 3, clock.now_ns())])
        scheduler.offer(key("b"), [item("b", 3, clock.now_ns())])
        clock.advance(100 * MS - 1)
        assert scheduler.poll() is None
        clock.advance(1)
        assert names(scheduler.poll()) == ["a", "b"]

    def test_what_took_long_before_it_came_waits_less(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock, a=freshest(budget_ms=200), b=freshest())
        scheduler.offer(key("a"), [item("a", 3, clock.now_ns() - 40 * MS)])
        clock.advance(10 * MS)
        assert names(scheduler.poll()) == ["a"]

    def test_a_budget_that_cannot_be_kept_is_no_reason_to_lose_a_frame(self) -> None:
        clock = ManualClock()
        scheduler = self.scheduler(clock, a=freshest(budget_ms=20), b=freshest())
        scheduler.offer(key("a"), [item("a", 3, clock.now_ns())])
        assert names(scheduler.poll()) == ["a"]


class TestStaleness:
    def scheduler(self, clock: ManualClock, shed: list[Item], **options: int) -> BatchScheduler:
        scheduler = BatchScheduler(4, clock=clock, shed=shed.append, **options)
        for name, terms in (("a", freshest(staleness_ms=100)), ("b", freshest())):
            scheduler.open(key(name), terms)
        scheduler.served(1, 40 * MS)
        return scheduler

    def test_a_frame_that_cannot_be_done_in_time_is_shed(self) -> None:
        clock, shed = ManualClock(), list[Item]()
        scheduler = self.scheduler(clock, shed)
        old, young = item("a", 0, clock.now_ns()), item("a", 1, clock.now_ns() + 30 * MS)
        for each in (old, young):
            scheduler.offer(key("a"), [each])
        scheduler.offer(key("b"), [item("b", 0, clock.now_ns())])
        clock.advance(60 * MS + 1)  # with the batch's 40 ms it would be 100 ms old, and more
        batch = scheduler.poll()
        assert batch is not None
        assert shed == [old]
        assert young in batch.items
        assert names(batch).count("b") == 1  # whoever has no bound loses nothing

    def test_it_is_served_as_long_as_it_can_be_done(self) -> None:
        clock, shed = ManualClock(), list[Item]()
        scheduler = self.scheduler(clock, shed)
        scheduler.offer(key("a"), [item("a", 0, clock.now_ns())])
        clock.advance(60 * MS)
        assert names(scheduler.poll()) == ["a"]
        assert shed == []

    def test_frames_are_shed_whole(self) -> None:
        clock, shed = ManualClock(), list[Item]()
        scheduler = self.scheduler(clock, shed)
        first = item("a", 0, clock.now_ns())
        tiles = [first, item("a", frame=first.frame, part=1)]
        scheduler.offer(key("a"), tiles)
        clock.advance(61 * MS)
        assert scheduler.poll() is None
        assert shed == tiles
        assert scheduler.waiting == 0

    def test_a_worker_that_finds_only_stale_frames_goes_on_waiting(self) -> None:
        clock, shed = ManualClock(), list[Item]()
        scheduler = self.scheduler(clock, shed)
        scheduler.offer(key("a"), [item("a", 0, clock.now_ns() - 500 * MS)])
        worker = Background(scheduler.take).parked()
        assert len(shed) == 1
        scheduler.offer(key("a"), [item("a", 1, clock.now_ns())])
        assert [entry.frame.sequence for entry in worker.result().items] == [1]

    def test_one_batch_that_took_too_long_is_not_the_end(self) -> None:
        """By its time no frame can be done within its bound, so none is sent off that could show that it is over."""
        clock, shed = ManualClock(), list[Item]()
        scheduler = BatchScheduler(4, clock=clock, shed=shed.append)
        scheduler.open(key("a"), freshest(staleness_ms=100))
        served = list[float]()
        for number in range(60):  # 4 s
            clock.advance(67 * MS)
            scheduler.offer(key("a"), [item("a", number, clock.now_ns())])
            if (batch := scheduler.poll(partial=True)) is not None:
                served.append(clock.now_ns() / 1e9)
                took_ms = 1000 if len(served) == 5 else 10
                clock.advance(took_ms * MS)
                scheduler.served(len(batch.items), took_ms * MS)
        pauses = [after - before for before, after in pairwise(served)]
        assert max(pauses) == pytest.approx(1 + 1, abs=0.2)  # the long one, and as long until it is forgotten
        assert len(shed) + len(served) == 60
        assert len(shed) < 18, "all but those of a second are served"

    def test_where_batches_always_take_too_long_one_is_tried_now_and_then(self) -> None:
        clock, shed = ManualClock(), list[Item]()
        scheduler = BatchScheduler(4, clock=clock, shed=shed.append)
        scheduler.open(key("a"), freshest(staleness_ms=100))
        served = 0
        for number in range(150):  # 10 s
            clock.advance(67 * MS)
            scheduler.offer(key("a"), [item("a", number, clock.now_ns())])
            if scheduler.poll(partial=True) is not None:
                served += 1
                scheduler.served(1, 300 * MS)
        assert 8 <= served <= 11
        assert len(shed) + served == 150

    def test_the_end_comes_also_when_what_was_left_is_stale(self) -> None:
        clock, shed = ManualClock(), list[Item]()
        scheduler = self.scheduler(clock, shed)
        scheduler.offer(key("a"), [item("a", 0, clock.now_ns() - 500 * MS)])
        for name in ("a", "b"):
            scheduler.close(key(name))
        scheduler.finish()
        with pytest.raises(Closed):
            scheduler.take()
        assert len(shed) == 1
