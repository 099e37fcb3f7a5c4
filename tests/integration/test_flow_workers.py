# SPDX-License-Identifier: Apache-2.0
"""The detect loop with several batches under way and several workers, and what a run says when it ends badly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Batch, Capture, Detections
from pipeline.ledger import StreamLedger
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource
from tests.background import DEADLINE_S, until


def stream(name: str, script: Sequence[Any] | ScriptedSource, **options: Any) -> Stream:
    source = script if isinstance(script, ScriptedSource) else ScriptedSource(script)
    return Stream(source, [CopyStage()], StreamLedger(name), **options)


def started(detector: Any, sinks: Sequence[ListSink], **options: Any) -> Pipeline:
    pipeline = Pipeline(detector, sinks, FlowOptions(**options))
    pipeline.start()
    return pipeline


def frames_of(batch: Batch) -> list[int]:
    return [item.frame.index for item in batch.items]


@dataclass
class Gated(FakeDetector):
    """Notes when batches are submitted and waited for; ``on_submit`` and ``on_wait`` may hold them up."""

    log: list[str] = field(default_factory=list)
    on_submit: Callable[[int], None] = lambda frame: None
    on_wait: Callable[[int], None] = lambda frame: None

    def submit(self, batch: Batch) -> Any:
        (frame,) = frames_of(batch)
        self.log.append(f"submit {frame}")
        self.on_submit(frame)
        done = super().submit(batch)

        class Pending:
            def wait(pending) -> None:
                self.log.append(f"wait {frame}")
                self.on_wait(frame)

            def result(pending) -> Sequence[Detections]:
                return done.result()

        return Pending()


def in_turn(depth: int, frames: int) -> list[str]:
    """What a worker does that always finds a batch: it keeps ``depth`` under way."""
    steps = [f"submit {frame}" for frame in range(depth)]
    for frame in range(frames):
        steps.append(f"wait {frame}")
        if frame + depth < frames:
            steps.append(f"submit {frame + depth}")
    return steps


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_worker_keeps_as_many_batches_under_way_as_the_detector_is_deep(depth: int) -> None:
    frames = 6
    account = StreamLedger("a")
    pipeline: Pipeline

    def until_the_next_is_queued(frame: int) -> None:
        # A reader that has decoded the frame after the next one has queued the next one.
        until(lambda: account.decoded >= frame + 3 or "read:a" not in pipeline.alive(), "the next frame")

    detector = Gated(depth=depth, on_submit=until_the_next_is_queued)
    sink = ListSink()
    pipeline = started(detector, [sink], batch_size=1)
    pipeline.add(Stream(ScriptedSource([0.1 * index for index in range(frames)]), [CopyStage()], account))
    pipeline.finish()
    assert pipeline.join(DEADLINE_S)
    assert detector.log == in_turn(depth, frames)
    assert sink.frames("a") == list(range(frames))  # also those that were under way when no more came


def test_a_batch_under_way_is_completed_when_nothing_follows_it() -> None:
    more = threading.Event()
    sink = ListSink()
    pipeline = started(Gated(depth=2), [sink], batch_size=1)
    pipeline.add(stream("a", [0.0, more, 0.1]))
    until(lambda: sink.frames("a") == [0], "the first result while the next frame is a long way off")
    more.set()
    pipeline.finish()
    assert pipeline.join(DEADLINE_S)
    assert sink.frames("a") == [0, 1]


def test_the_next_batch_is_on_the_device_before_the_first_has_left_it() -> None:
    first_done = threading.Event()
    detector = Gated(depth=2, on_wait=lambda frame: None if frame else first_done.wait(DEADLINE_S) and None)
    queued = threading.Event()
    detector.on_submit = lambda frame: None if frame else queued.wait(DEADLINE_S) and None
    sink = ListSink()
    pipeline = started(detector, [sink], batch_size=1)
    one = stream("a", [0.0, 0.1, 0.2])
    pipeline.add(one)
    until(lambda: one.account.state == "finished", "the end of the script")
    queued.set()
    until(lambda: "wait 0" in detector.log, "the wait for the first batch")
    assert detector.log == ["submit 0", "submit 1", "wait 0"]
    assert sink.results == []
    first_done.set()
    pipeline.finish()
    assert pipeline.join(DEADLINE_S)
    assert sink.frames("a") == [0, 1, 2]


def test_the_last_worker_ends_the_follow_loop_not_the_first() -> None:
    hold = threading.Event()
    detector = Gated(on_wait=lambda frame: None if frame else hold.wait(DEADLINE_S) and None)
    sink = ListSink()
    pipeline = started(detector, [sink], batch_size=1, workers=2)
    pipeline.add(stream("a", [0.0, 0.1, 0.2]))
    pipeline.finish()
    until(lambda: sum(name.startswith("detect:") for name in pipeline.alive()) == 1, "the end of one worker")
    assert sink.results == []
    hold.set()
    assert pipeline.join(DEADLINE_S)
    assert sink.frames("a") == [0, 1, 2]


@pytest.mark.unbalanced
def test_frames_that_nobody_accounts_for_are_a_fault_that_is_said() -> None:
    class Counts(ScriptedSource):
        def read(self) -> Capture | None:
            one.account.decoded += self._index == 1
            return super().read()

    one = stream("a", Counts([0.0, 0.1, 0.2]))
    pipeline = started(FakeDetector(), [ListSink()])
    pipeline.add(one)
    pipeline.finish()
    with pytest.raises(PipelineError, match=r"unaccounted.*'a': 1"):
        pipeline.join(DEADLINE_S)


class Fatal(BaseException):
    """Not an Exception: what no loop is meant to survive."""


@pytest.mark.parametrize("where", ["sink", "source"])
def test_a_loop_that_dies_ends_everything_and_says_why(where: str) -> None:
    def dies(result: Any) -> None:
        raise Fatal("the first word")

    sink = ListSink("dies", fail=dies if where == "sink" else None)
    quiet = ListSink("quiet")
    pipeline = started(FakeDetector(), [sink, quiet], batch_size=1, outlet_capacity=1)
    script = [0.1 * index for index in range(50)]
    waits = stream("waits", [*script, threading.Event()])
    pipeline.add(waits)  # would never end
    pipeline.add(stream("dies", [*script, *([Fatal("the first word")] if where == "source" else [])]))
    with pytest.raises(Fatal, match="the first word"):
        pipeline.join(DEADLINE_S)
    assert pipeline.alive() == []
    assert waits.account.state == "stopped"
    assert pipeline.ledger.unbalanced() == {}
    assert quiet.events[-1] == "close"


def test_a_run_in_one_thread_that_dies_closes_what_it_opened() -> None:
    class Dies(FakeDetector):
        def submit(self, batch: Batch) -> Any:
            raise MemoryError("out of everything")

    sources = [ScriptedSource([0.0, 0.1, 0.2]) for _ in range(2)]
    sink = ListSink()
    pipeline = Pipeline(Dies(), [sink], FlowOptions(batch_size=1))
    with pytest.raises(MemoryError):
        pipeline.run_inline([stream(str(number), source) for number, source in enumerate(sources)])
    assert [source.closed for source in sources] == [1, 0]  # the second one was never opened
    assert sink.events[-1] == "close"


def test_a_stream_that_is_added_after_the_stop_never_opens() -> None:
    pipeline = started(FakeDetector(), [ListSink()])
    pipeline.stop()
    source = ScriptedSource([0.0])
    late = stream("late", source)
    pipeline.add(late)
    assert pipeline.join(DEADLINE_S)
    assert (late.account.state, source.stop) == ("stopped", None)


def test_a_join_that_is_too_short_says_so() -> None:
    hold = threading.Event()
    pipeline = started(FakeDetector(), [ListSink()])
    pipeline.add(stream("a", [0.0, hold, 0.1]))
    pipeline.finish()
    assert not pipeline.join(0.01)
    assert "read:a" in pipeline.alive()
    hold.set()
    assert pipeline.join(DEADLINE_S)


def test_every_worker_warms_itself_with_the_sizes_that_it_will_see() -> None:
    fixed, live = FakeDetector(), FakeDetector()
    for detector, fixed_batch in ((fixed, True), (live, False)):
        pipeline = started(detector, [], batch_size=3, workers=2, fixed_batch=fixed_batch)
        pipeline.finish()
        assert pipeline.join(DEADLINE_S)
    assert fixed.warmed == [[3], [3]]
    assert live.warmed == [[1, 2, 3], [1, 2, 3]]


def test_an_abort_gives_a_slow_sink_nothing_more() -> None:
    gate = threading.Event()
    sink = ListSink(gate=gate)
    pipeline = started(FakeDetector(), [sink], batch_size=1, outlet_capacity=2)
    pipeline.add(stream("a", [0.1 * index for index in range(50)]))
    account = pipeline.ledger.sinks["list"]
    until(lambda: account.received >= 4, "a full outlet behind a held sink")
    pipeline.abort()
    gate.set()
    assert pipeline.join(DEADLINE_S)
    assert sink.frames("a") == [0]  # the one that it had in hand
    assert account.lost["shutdown"] >= 2
    assert sink.events == ["open", "begin a", "close"]
    assert pipeline.ledger.unbalanced() == {}
