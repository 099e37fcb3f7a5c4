# SPDX-License-Identifier: Apache-2.0
"""Faults on purpose, in real flows: the frame that met one says so."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Batch, Capture, Detections, Frame, Geometry, InputSpec, Picture, Result, Uint8Array
from pipeline.ledger import StreamLedger
from pipeline.testing import CopyStage, FakeDetector, ListSink, ManualClock, ScriptedSource
from pipeline.timing import SYSTEM, Clock
from tests.background import until

MS = 1_000_000
FRAMES, FAULTY = 40, 30
BUDGET_NS = 50 * MS

Play = Callable[..., dict[str, Any]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["inline", "threaded"])
def play(request: pytest.FixtureRequest) -> Play:
    """Run one stream on a clock; returns what the report says of it."""

    def played(
        clock: Clock,
        *,
        stage: CopyStage | None = None,
        source: type[ScriptedSource] = ScriptedSource,
        sinks: list[ListSink] | None = None,
        detector: FakeDetector | None = None,
        budget_ns: int | None = BUDGET_NS,
        **options: Any,
    ) -> dict[str, Any]:
        account = StreamLedger("gate", budget_ns=budget_ns)
        written = sinks or [ListSink("jsonl")]

        def script() -> Iterator[float]:
            for number in range(FRAMES):
                if number in (FAULTY, FAULTY + 1):  # alone, so that it holds no other up
                    until(lambda: all(len(sink.results) == number for sink in written))  # noqa: B023 - called here
                yield number / 25

        stream = Stream(source(script(), clock=clock), [stage or CopyStage()], account, **options)
        pipeline = Pipeline(detector or FakeDetector(), written, FlowOptions(batch_size=1), clock=clock)
        if request.param == "inline":
            pipeline.run_inline([stream])
        else:
            pipeline.start()
            pipeline.add(stream)
            pipeline.finish()
            assert pipeline.join(30), pipeline.alive()
        told: dict[str, Any] = pipeline.ledger.as_dict()["streams"]["gate"]
        return told

    return played


def of(told: dict[str, Any], frame: int) -> dict[str, Any]:
    """One of the slow frames; others may have been held up by the same fault."""
    return next(slow for slow in told["slow_frames"] if slow["frame"] == frame)


class SlowStage(CopyStage):
    """Takes 60 ms for one frame."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        if picture.planes[0][0, 0] == FAULTY:
            self._clock.advance(60 * MS)
        return super().prepare(picture, spec, out)


class SlowDecoder(ScriptedSource):
    """Decodes one frame for 60 ms."""

    def read(self) -> Capture | None:
        capture = super().read()
        if capture is not None and capture.index == FAULTY:
            assert isinstance(self._clock, ManualClock)
            self._clock.advance(60 * MS)
            return replace(capture, decoded_ns=self._clock.now_ns())
        return capture


class SlowFollower:
    """Thinks for 60 ms about one frame."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def follow(self, frame: Frame, detections: Detections | None) -> Detections:
        if frame.index == FAULTY:
            self._clock.advance(60 * MS)
        return Detections.empty() if detections is None else detections


class TimedDetector(FakeDetector):
    """Takes 10 ms per picture, or more for one."""

    def __init__(self, clock: ManualClock, faulty_ms: int = 10, **options: Any) -> None:
        super().__init__(**options)
        self._clock, self._faulty_ms = clock, faulty_ms

    def submit(self, batch: Batch) -> Any:
        pending = super().submit(batch)
        for item in batch.items:
            self._clock.advance((self._faulty_ms if item.frame.index == FAULTY else 10) * MS)
        return pending


def test_a_run_without_slow_frames_says_nothing(play: Play, clock: ManualClock) -> None:
    told = play(clock)
    assert told["late"] == {"frames": 0, "limit_ms": 50.0, "by": "budget", "parts": {}}
    assert told["slow_frames"] == []


def test_without_a_budget_a_few_frames_are_too_few_to_say(play: Play, clock: ManualClock) -> None:
    told = play(clock, stage=SlowStage(clock), budget_ns=None)
    assert told["late"] == {"frames": 0, "limit_ms": None, "by": "p99", "parts": {}}


def test_a_slow_stage(play: Play, clock: ManualClock) -> None:
    told = play(clock, stage=SlowStage(clock))
    slow = of(told, FAULTY)
    assert slow["verdict"] == "preprocess +60 ms"
    assert slow["parts_ms"] == {"preprocess": 60.0}
    assert told["late"]["parts"]["preprocess"] == 1


def test_a_slow_decoder(play: Play, clock: ManualClock) -> None:
    assert of(play(clock, source=SlowDecoder), FAULTY)["verdict"] == "decode +60 ms"


def test_a_slow_follower(play: Play, clock: ManualClock) -> None:
    assert of(play(clock, follower=SlowFollower(clock)), FAULTY)["verdict"] == "follow +60 ms"


def test_a_slow_sink_by_its_name(play: Play, clock: ManualClock) -> None:
    def write(result: Result) -> None:
        if result.frame == FAULTY:
            clock.advance(1000 * MS)

    slow = of(play(clock, sinks=[ListSink("jsonl"), ListSink("video", fail=write)]), FAULTY)
    assert slow["verdict"] == "sink +1.0 s: video wrote"
    assert slow["beside"]["sink"] == "video"


def test_a_slow_network(play: Play, clock: ManualClock) -> None:
    slow = of(play(clock, detector=TimedDetector(clock, 5000), budget_ns=1000 * MS), FAULTY)
    assert slow["verdict"] == "infer +5.0 s: batch 31 of size 1"
    assert slow["beside"]["batch"] == {
        "number": 31,
        "items": 1,
        "worker": slow["beside"]["batch"]["worker"],
        "took_ms": 5000.0,
    }


class Collecting(CopyStage):
    """Has garbage collected beside one frame."""

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        if picture.planes[0][0, 0] == FAULTY:
            gc.collect()
        return super().prepare(picture, spec, out)


def test_a_collection_of_garbage(play: Play) -> None:
    ballast = [[number] for number in range(200_000)]  # to be looked through: some 20 ms at least
    slow = of(play(SYSTEM, stage=Collecting(), budget_ns=5 * MS), FAULTY)
    assert slow["part"] == "preprocess"
    assert "s: garbage collection (generation 2) took" in slow["verdict"]
    assert slow["beside"]["pause"]["generation"] == 2
    assert ballast


def test_a_camera_that_stands_still_holds_its_batch_up(clock: ManualClock) -> None:
    hold = threading.Event()
    pipeline = Pipeline(FakeDetector(), [ListSink()], FlowOptions(batch_size=2), clock=clock)
    pipeline.start()
    for name, script in (("gate", [0.0]), ("lobby", [hold, 0.0])):
        source = ScriptedSource(script, clock=clock)
        pipeline.add(Stream(source, [CopyStage()], StreamLedger(name, budget_ns=BUDGET_NS)))
    pipeline.finish()
    until(lambda: pipeline.waiting().get("gate") == 1 and "lobby" in pipeline.waiting())
    clock.advance(83 * MS)
    hold.set()
    assert pipeline.join(30)
    streams = pipeline.ledger.as_dict()["streams"]
    (slow,) = streams["gate"]["slow_frames"]
    assert slow["verdict"] == "queue +83 ms: batch 1 waited for lobby"
    assert streams["gate"]["late"]["parts"] == {"batch": 1}
    assert streams["lobby"]["slow_frames"] == []


def test_a_batch_that_is_bigger_than_usual(clock: ManualClock) -> None:
    """Single frames first; then seven cameras come together while the worker is held."""
    gate, hold, more = threading.Event(), threading.Event(), threading.Event()
    gate.set()
    names = [f"camera-{number}" for number in range(7)]
    detector = TimedDetector(clock, gate=gate)
    pipeline = Pipeline(detector, [ListSink()], FlowOptions(batch_size=7, fixed_batch=False), clock=clock)
    pipeline.start()
    first = Stream(ScriptedSource([*range(9), more, 9], clock=clock), [CopyStage()], StreamLedger("first"))
    pipeline.add(first)
    until(lambda: first.account.processed == 9)
    gate.clear()
    more.set()
    until(lambda: first.ended and not pipeline.waiting().get("first"), "the worker's being held")
    for name in names:
        source = ScriptedSource([hold, 0.0], clock=clock)
        pipeline.add(Stream(source, [CopyStage()], StreamLedger(name, budget_ns=BUDGET_NS)))
    until(lambda: set(names) <= set(pipeline.waiting()))
    hold.set()
    until(lambda: sum(pipeline.waiting().get(name, 0) for name in names) == len(names))
    pipeline.finish()
    gate.set()
    assert pipeline.join(30)
    assert detector.sizes[-1] == 7
    usual = sorted(detector.sizes)[(len(detector.sizes) - 1) // 2]
    for name in names:
        (slow,) = pipeline.ledger.as_dict()["streams"][name]["slow_frames"]
        assert slow["verdict"] == f"infer +70 ms: batch of 7 (usually {usual})"
