# SPDX-License-Identifier: Apache-2.0
"""Whichever way a frame goes, and wherever it is lost: its parts sum to its time, to the nanosecond."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.errors import InferenceError, SinkError, StageError
from pipeline.flow import Pipeline
from pipeline.flow.lanes import Terms
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Batch, Detections, Frame, Geometry, InputSpec, Picture, Result, Uint8Array
from pipeline.ledger import StreamLedger
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource
from pipeline.timing import EPOCH, PTS, WAITS, Mark, elapsed, ended_in, part_times, stage_times
from tests.background import until
from tests.journeys import BY_ITS_READER

FRAMES = 12


class Kept(StreamLedger):
    """An account that keeps every trace."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.whole: list[list[int]] = []
        self.cut: list[tuple[str, list[int]]] = []

    def finished(self, trace: list[int]) -> None:
        self.whole.append(list(trace))
        super().finished(trace)

    def lost(self, reason: str, trace: list[int]) -> None:
        self.cut.append((reason, list(trace)))
        super().lost(reason, trace)


class Sixth(CopyStage):
    """Fails at frame 6."""

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        geometry = super().prepare(picture, spec, out)
        if out.flat[0] == 6:
            raise StageError("frame 6")
        return geometry


class Poisoned(FakeDetector):
    """Cannot bear frame 6."""

    def submit(self, batch: Batch) -> Any:
        if any(item.frame.index == 6 for item in batch.items):
            raise InferenceError("frame 6")
        return super().submit(batch)


class Refuses:
    """A follower that fails at frame 6."""

    def follow(self, frame: Frame, detections: Detections | None) -> Detections:
        if frame.index == 6:
            raise ValueError("frame 6")
        return Detections.empty() if detections is None else detections


def stream(stages: Sequence[CopyStage] | None = None, **options: Any) -> tuple[Stream, Kept]:
    account = Kept("a")
    source = options.pop("source", None) or ScriptedSource([index / 25 for index in range(FRAMES)])
    return Stream(source, stages or [CopyStage()], account, **options), account


def check(account: Kept) -> None:
    """Every journey, of those that were published and of those that were not."""
    journeys = account.whole + [trace for _, trace in account.cut]
    assert len(journeys) == account.decoded
    for trace in journeys:
        passed = [at for at in trace[: len(Mark)] if at]
        assert trace[Mark.READ]
        assert passed == sorted(passed)
        waited = sum(time for place, time in part_times(trace).items() if place in WAITS)
        assert stage_times(trace).get("queue", 0) == waited
        assert sum(part_times(trace).values()) == sum(stage_times(trace).values()) == elapsed(trace)
        assert elapsed(trace) == passed[-1] - passed[0]
    assert [trace[PTS] for trace in account.whole] == sorted(trace[PTS] for trace in account.whole)
    assert {trace[EPOCH] for trace in journeys} == {0}
    report = account.as_dict(0)
    assert report["frames"]["decoded"] == len(account.whole) + len(account.cut)
    counted = sum(stats["mean_ms"] * stats["count"] for stats in report["stages"].values())
    exact = sum(elapsed(trace) for trace in account.whole) / 1e6
    assert abs(counted - exact) <= 1e-6 * len(account.whole)


def the_one_that_was_lost(account: Kept, reason: str) -> list[int]:
    check(account)
    ((why, trace),) = account.cut
    assert (why, len(account.whole)) == (reason, FRAMES - 1)
    assert trace[PTS] == 6 * 40_000_000
    return trace


def test_the_whole_way(run: Any) -> None:
    one, account = stream()
    run([one], [ListSink("one"), ListSink("two")], batch_size=4)
    check(account)
    assert all(trace[mark] for trace in account.whole for mark in BY_ITS_READER), "every mark was passed"


def test_parts_nobody_looks_at_and_no_sinks(run: Any) -> None:
    tiles, account = stream([CopyStage(), CopyStage(), CopyStage()], gate=lambda capture: capture.index % 3 > 0)
    run([tiles], [], batch_size=2)
    check(account)
    for trace in account.whole:
        looked_at = trace[PTS] // 40_000_000 % 3 > 0
        assert bool(trace[Mark.INFER]) == looked_at
        assert not trace[Mark.DONE]


def test_lost_by_a_sink(run: Any) -> None:
    one, account = stream()

    def fail(result: Result) -> None:
        if result.frame == 6:
            raise SinkError("frame 6")

    run([one], [ListSink(fail=fail)])
    check(account)
    assert [trace[Mark.DONE] > 0 for trace in account.whole] == [number != 6 for number in range(FRAMES)]


def test_damaged(run: Any) -> None:
    source = ScriptedSource([index / 25 for index in range(FRAMES)], corrupt=[6])
    one, account = stream(source=source, drop_corrupt=True)
    run([one], [ListSink()])
    assert ended_in(the_one_that_was_lost(account, "corrupt")) == "decoder"


def test_lost_in_a_stage(run: Any) -> None:
    one, account = stream([Sixth()])
    run([one], [ListSink()])
    assert ended_in(the_one_that_was_lost(account, "stage_error")) == "preprocess"


def test_lost_in_the_network(run: Any) -> None:
    one, account = stream()
    run([one], [ListSink()], Poisoned(), batch_size=4)
    assert ended_in(the_one_that_was_lost(account, "inference_error")) == "infer"


def test_lost_in_the_follower(run: Any) -> None:
    one, account = stream(follower=Refuses())
    run([one], [ListSink()])
    assert ended_in(the_one_that_was_lost(account, "stage_error")) == "follow"


def test_pushed_out_of_the_lane() -> None:
    gate = threading.Event()
    pipeline = Pipeline(FakeDetector(gate=gate), [ListSink()], FlowOptions(batch_size=1, fixed_batch=False))
    pipeline.start()
    source = ScriptedSource([index / 25 for index in range(60)])
    one, account = stream([CopyStage(), CopyStage()], source=source, terms=Terms(policy="freshest"))
    pipeline.add(one)
    pipeline.finish()
    until(lambda: account.decoded == 60)
    gate.set()
    assert pipeline.join(30)
    check(account)
    assert len(account.cut) > 40
    assert {ended_in(trace) for _, trace in account.cut} == {"scheduler"}
    assert account.as_dict(0)["frames"]["dropped_in"] == {"scheduler": {"overflow": len(account.cut)}}
    assert account.as_dict(0)["dropped_after"]["count"] == len(account.cut)


def test_too_old_in_the_lane() -> None:
    gate = threading.Event()
    pipeline = Pipeline(FakeDetector(gate=gate), [ListSink()], FlowOptions(batch_size=1, fixed_batch=False))
    pipeline.start()
    one, account = stream(terms=Terms(policy="freshest", staleness_ns=1))
    pipeline.add(one)
    pipeline.finish()
    gate.set()
    assert pipeline.join(30)
    check(account)
    assert {ended_in(trace) for _, trace in account.cut} == {"scheduler"}
    assert account.cut[-1][0] == "stale"  # before it, some may have been pushed out by the next


def test_while_it_runs_every_frame_is_somewhere() -> None:
    gate, hold = threading.Event(), threading.Event()
    sink = ListSink()
    pipeline = Pipeline(FakeDetector(gate=gate), [sink], FlowOptions(batch_size=2, fixed_batch=True))
    pipeline.start()
    source = ScriptedSource([*np.arange(3) / 25, hold, *np.arange(3, 9) / 25])
    one, account = stream(source=source)
    pipeline.add(one)
    pipeline.finish()
    until(lambda: account.decoded == 3)
    before = account.balance()
    assert (before.decoded, before.in_flight, before.processed) == (3, 3, 0), "two in the network, one in its lane"
    gate.set()
    until(lambda: account.processed == 2)
    assert account.balance().in_flight == 1
    hold.set()
    while pipeline.alive():
        now = account.balance()
        assert 0 <= now.in_flight <= 9
        assert now.decoded == now.processed + now.dropped.total() + now.decimated + now.in_flight
        if pipeline.join(0.001):
            break
    assert account.balance() == (9, 9, 0, {})
