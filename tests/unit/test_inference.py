# SPDX-License-Identifier: Apache-2.0
"""A batch goes in, one outcome per item comes out: in time, in source pixels, whatever the detector does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pytest

from pipeline.complaints import Complaints
from pipeline.errors import InferenceError, StageError
from pipeline.flow.batching import BatchScheduler
from pipeline.flow.inference import BatchRunner
from pipeline.frame import Batch, Detections, Frame, Geometry, InputSpec, Item, Outcome, StreamKey
from pipeline.frame.buffers import BufferPool
from pipeline.ledger import Ledger
from pipeline.testing import ManualClock, one_box
from pipeline.timing import new_trace

SPEC = InputSpec(32, 32)
Step = Literal["submit", "wait", "result"]


class Timed:
    """A detector whose submission takes 1 ns, the network 10 ns and reading the results 100 ns."""

    exclusive = False

    def __init__(self, clock: ManualClock) -> None:
        self.spec, self.labels, self.max_batch, self.depth = SPEC, {0: "thing"}, 8, 1
        self.clock = clock
        self.calls: list[tuple[Step, list[int]]] = []
        self.sizes: list[int] = []
        self.poison: dict[int, tuple[Step, Exception]] = {}  # frame -> where it fails, and how
        self.find: Callable[[int], Detections] = one_box

    def warm(self, sizes: Sequence[int]) -> None:
        pass

    def close(self) -> None:
        pass

    def submit(self, batch: Batch) -> _UnderWay:
        self.sizes.append(batch.size)
        under_way = _UnderWay(self, batch)
        under_way.step("submit", 1)
        return under_way


class _UnderWay:
    def __init__(self, detector: Timed, batch: Batch) -> None:
        self.detector = detector
        self.frames = [item.frame.index for item in batch.items]

    def step(self, step: Step, duration_ns: int) -> None:
        self.detector.clock.advance(duration_ns)
        self.detector.calls.append((step, self.frames))
        for frame in self.frames:
            where, error = self.detector.poison.get(frame, (None, None))
            if where == step and error is not None:
                raise error

    def wait(self) -> None:
        self.step("wait", 10)

    def result(self) -> list[Detections]:
        self.step("result", 100)
        return [self.detector.find(frame) for frame in self.frames]


class Noting(BatchScheduler):
    """Notes how long batches took."""

    def __init__(self) -> None:
        super().__init__(8)
        self.durations: list[int] = []

    def served(self, items: int, duration_ns: int, waited_ns: int = 0) -> None:
        self.durations.append(duration_ns)
        super().served(items, duration_ns, waited_ns)


class Bench:
    """A runner and everything around it."""

    def __init__(self, exclusive: bool = False) -> None:
        self.clock = ManualClock(1000)
        self.detector = Timed(self.clock)
        self.detector.exclusive = exclusive
        self.scheduler = Noting()
        self.buffers = BufferPool()
        self.ledger = Ledger()
        self.outcomes: list[Outcome] = []
        self.on_loan: list[int] = []
        self.runner = BatchRunner(
            self.detector, self.scheduler, self.buffers, self.ledger, self.emit, self.clock.now_ns,
            Complaints(logging.getLogger("pipeline"), self.clock),
        )  # fmt: skip

    def emit(self, *outcomes: Outcome) -> None:
        self.outcomes += outcomes
        self.on_loan.append(self.buffers.stats.in_use)

    def batch(self, *frames: int, geometry: Geometry | None = None, part: int = 0, of: int = 1) -> Batch:
        geometry = geometry or Geometry(64, 64, 0.5, 0.5)
        return Batch(tuple(self.item(frame, geometry, part, of) for frame in frames), 8, 1, 998, 999)

    def item(self, index: int, geometry: Geometry, part: int, of: int) -> Item:
        frame = Frame(StreamKey("a", 1), index, index, 0.0, None, 0, 64, 64, None, new_trace())
        return Item(frame, SPEC, self.buffers.acquire(SPEC.shape), geometry, part, of, queued_ns=997)

    def run(self, batch: Batch) -> dict[int, Outcome]:
        self.runner.complete(self.runner.submit(batch))
        assert self.buffers.stats.in_use == 0
        outcomes = {outcome.frame.index: outcome for outcome in self.outcomes}
        assert len(outcomes) == len(self.outcomes) == len(batch.items)
        return outcomes


def test_every_item_gets_the_times_of_its_batch() -> None:
    bench = Bench()
    outcomes = bench.run(bench.batch(0, 1, 2))
    assert [outcome.marks for outcome in outcomes.values()] == [(997, 998, 999, 0, 0, 1000, 1011, 1111)] * 3
    assert bench.detector.calls == [("submit", [0, 1, 2]), ("wait", [0, 1, 2]), ("result", [0, 1, 2])]


def test_the_scheduler_hears_how_long_a_batch_took() -> None:
    bench = Bench()
    under_way = bench.runner.submit(bench.batch(0, 1))
    assert bench.scheduler.durations == []
    bench.clock.advance(1000)  # another batch was completed meanwhile
    bench.runner.complete(under_way)
    assert bench.scheduler.durations == [1111]
    assert bench.ledger.batch_sizes == {2: 1}


def test_boxes_are_in_source_pixels_and_parts_keep_their_numbers() -> None:
    bench = Bench()
    tile = Geometry(640, 480, 0.5, 0.5, pad_x=4, pad_y=2, offset_x=100, offset_y=50)
    outcome = bench.run(bench.batch(51, geometry=tile, part=2, of=3))[51]
    assert outcome.detections is not None
    np.testing.assert_allclose(outcome.detections.xyxy, [[108, 62, 140, 94]])  # (8 - pad) / scale + offset
    np.testing.assert_allclose(outcome.detections.confidence, [0.2])
    assert (outcome.part, outcome.of, outcome.dropped) == (2, 3, None)


def test_what_lies_in_the_padding_is_nothing() -> None:
    bench = Bench()
    xyxy = np.array([[0, 0, 4, 32], [8, 8, 16, 16], [28, 0, 32, 9], [0, 0, 32, 3], [2, 2, 30, 30]], np.float32)
    bench.detector.find = lambda frame: Detections(
        xyxy, np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32), np.arange(5, dtype=np.int64)
    )
    outcome = bench.run(bench.batch(0, geometry=Geometry(24, 24, 1, 1, pad_x=4, pad_y=4)))[0]
    assert outcome.detections is not None
    np.testing.assert_array_equal(outcome.detections.xyxy, [[4, 4, 12, 12], [0, 0, 24, 24]])
    np.testing.assert_array_equal(outcome.detections.confidence, np.array([0.8, 0.5], np.float32))
    assert outcome.detections.class_id.tolist() == [1, 4]


def test_nothing_found_is_a_result() -> None:
    bench = Bench()
    bench.detector.find = lambda frame: Detections.empty()
    outcome = bench.run(bench.batch(0))[0]
    assert outcome.detections is not None
    assert (len(outcome.detections), outcome.dropped) == (0, None)


def test_the_inputs_are_given_back_before_the_results_go_on() -> None:
    bench = Bench()
    bench.run(bench.batch(0, 1))
    assert bench.on_loan == [0]  # asked once: they go on together


@pytest.mark.parametrize("step", ["submit", "wait", "result"])
@pytest.mark.parametrize("bad", [{0}, {4}, {1, 2}, {0, 1, 2, 3, 4}])
def test_a_failing_batch_costs_only_its_bad_items(step: Step, bad: set[int], caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.detector.poison = {frame: (step, InferenceError(f"poison {frame}")) for frame in bad}
    with caplog.at_level(logging.ERROR, "pipeline"):
        outcomes = bench.run(bench.batch(0, 1, 2, 3, 4))
    assert {frame for frame, outcome in outcomes.items() if outcome.dropped == "inference_error"} == bad
    assert all(outcome.detections is not None for frame, outcome in outcomes.items() if frame not in bad)
    assert list(outcomes) == [0, 1, 2, 3, 4]
    assert sum(size * count for size, count in bench.ledger.batch_sizes.items()) == 5 - len(bad)
    assert set(bench.detector.sizes) == {8}  # the network sees one size, in the halves too
    assert len(bench.scheduler.durations) == bench.ledger.batch_sizes.total()
    assert f"frame {min(bad)}: poison {min(bad)}" in caplog.text


def test_a_bad_part_says_which_part_it_was() -> None:
    bench = Bench()
    bench.detector.poison = {0: ("wait", InferenceError("poison"))}
    outcome = bench.run(bench.batch(0, part=1, of=4))[0]
    assert (outcome.dropped, outcome.part, outcome.of, outcome.detections) == ("inference_error", 1, 4, None)


def test_too_few_or_too_many_results_are_a_failure_of_the_batch() -> None:
    for number in (-1, 1):
        bench = Bench()

        class Miscounts(_UnderWay):
            def result(self) -> list[Detections]:
                found = super().result()
                return found[:-1] if number < 0 else [*found, Detections.empty()]  # noqa: B023

        bench.detector.submit = lambda batch: Miscounts(bench.detector, batch)  # type: ignore[method-assign] # noqa: B023
        outcomes = bench.run(bench.batch(0, 1))
        assert [outcome.dropped for outcome in outcomes.values()] == ["inference_error"] * 2


def test_a_fault_that_is_no_inference_error_is_not_swallowed() -> None:
    for step in ("submit", "wait", "result"):
        bench = Bench()
        bench.detector.poison = {0: (step, MemoryError("out of everything"))}  # type: ignore[dict-item]
        with pytest.raises(MemoryError):
            bench.runner.complete(bench.runner.submit(bench.batch(0, 1)))
        assert bench.outcomes == []


def test_how_long_a_call_has_been_in_the_detector_is_known_while_it_lasts() -> None:
    bench = Bench()
    seen: list[int] = []

    def look(value: int) -> Detections:
        seen.append(bench.runner.longest_ns())
        bench.clock.advance(1_000)
        return one_box(value)

    bench.detector.find = look
    bench.runner.complete(bench.runner.submit(bench.batch(1, 2)))
    assert seen == [110, 1110], "10 ns of waiting and 100 ns of reading, then the first picture"
    assert bench.runner.longest_ns() == 0
    bench.detector.poison[3] = ("submit", InferenceError("no"))
    bench.runner.complete(bench.runner.submit(bench.batch(3)))
    assert bench.runner.longest_ns() == 0


@pytest.mark.parametrize(("exclusive", "expected"), [(True, 5), (False, 1005)])
def test_to_wait_for_ones_turn_is_no_hanging(exclusive: bool, expected: int) -> None:
    bench = Bench(exclusive)
    turn, waits = threading.Lock(), threading.Event()
    seen: list[int] = []
    plain = bench.detector.submit

    def submit(batch: Batch) -> _UnderWay:
        if batch.items[0].frame.index == 2:
            waits.set()
            assert turn.acquire(timeout=30.0)
            seen.append(bench.runner.longest_ns())
        return plain(batch)

    def look(value: int) -> Detections:
        if value == 1:
            second.start()
            assert waits.wait(30.0)
            bench.clock.advance(1000)
        return one_box(value)

    bench.detector.submit, bench.detector.find = submit, look  # type: ignore[method-assign]
    second = threading.Thread(target=bench.runner.submit, args=(bench.batch(2),), daemon=True)
    turn.acquire()
    bench.runner.complete(bench.runner.submit(bench.batch(1)))
    bench.clock.advance(5)
    turn.release()
    second.join(30.0)
    assert seen == [expected]


class TestWhatReadersLeave:
    """Inputs that are made by the worker that takes them."""

    def left(self, bench: Bench, *frames: int, broken: frozenset[int] = frozenset()) -> Batch:
        def make(item: Item) -> None:
            bench.clock.advance(20)
            if item.frame.index in broken:
                raise StageError(f"no plane in {item.frame.index}")
            item.input = bench.buffers.acquire(SPEC.shape)
            item.geometry = Geometry(64, 64, 0.5, 0.5)

        frame = [Frame(StreamKey("a", 1), n, n, 0.0, None, 0, 64, 64, None, new_trace()) for n in frames]
        nothing, nowhere = np.empty((0, 0, 3), np.uint8), Geometry(1, 1, 1, 1)
        items = tuple(Item(each, SPEC, nothing, nowhere, queued_ns=997, make=make) for each in frame)
        return Batch(items, len(items), 1, 998, 999)

    def test_they_are_made_one_after_the_other_and_then_go_together(self) -> None:
        bench = Bench()
        outcomes = bench.run(self.left(bench, 0, 1))
        assert [outcomes[frame].marks for frame in (0, 1)] == [
            (997, 998, 999, 1000, 1020, 1040, 1051, 1151),
            (997, 998, 999, 1020, 1040, 1040, 1051, 1151),
        ]
        np.testing.assert_allclose(outcomes[0].detections.xyxy[0], one_box(0).xyxy[0] * 2)  # type: ignore[union-attr]
        (run,) = bench.ledger.journal(0).batches
        assert (run.taken_ns, run.began_ns, run.making_ns) == (1000, 1040, 40)
        assert bench.scheduler.durations == [151]  # so long the worker was busy with it

    def test_what_cannot_be_made_costs_its_frame_only(self) -> None:
        bench = Bench()
        outcomes = bench.run(self.left(bench, 0, 1, 2, broken=frozenset({1})))
        assert {frame: outcome.dropped for frame, outcome in outcomes.items()} == {0: None, 1: "stage_error", 2: None}
        assert outcomes[1].why == "no plane in 1"
        assert outcomes[1].marks == (997, 998, 999, 1020, 1040)
        assert bench.detector.calls[0] == ("submit", [0, 2])
        assert bench.detector.sizes == [2]

    def test_where_none_can_be_made_the_network_sees_nothing(self) -> None:
        bench = Bench()
        outcomes = bench.run(self.left(bench, 0, 1, broken=frozenset({0, 1})))
        assert {outcome.dropped for outcome in outcomes.values()} == {"stage_error"}
        assert bench.detector.calls == []
        assert bench.runner.longest_ns() == 0
