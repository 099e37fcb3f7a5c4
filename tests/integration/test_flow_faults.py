# SPDX-License-Identifier: Apache-2.0
"""Faults of plug-ins and of the system in the read loop cost their own stream, and leave the balance right."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Batch, Capture, StreamInfo
from pipeline.ledger import StreamLedger
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource
from pipeline.threads import StopFlag
from tests.background import DEADLINE_S, until

SCRIPT = [0.1 * index for index in range(8)]


def stream(name: str, source: ScriptedSource | None = None, **options: Any) -> Stream:
    return Stream(source or ScriptedSource(SCRIPT), [CopyStage()], StreamLedger(name), **options)


def states(pipeline: Pipeline) -> dict[str, str]:
    return {name: account.state for name, account in pipeline.ledger.streams.items()}


def assert_balanced(pipeline: Pipeline) -> None:
    assert pipeline.ledger.unbalanced() == {}
    assert pipeline.buffers.stats.in_use == 0


@pytest.mark.parametrize("where", ["keep", "gate"])
def test_a_question_that_fails_ends_its_stream(run: Any, where: str) -> None:
    def asks(capture: Capture) -> bool:
        if capture.index == 5:
            raise LookupError("a fault of a plug-in")
        return True

    sink = ListSink()
    bad = stream("bad", **{where: asks})
    pipeline = run([bad, stream("good")], [sink], batch_size=2)
    assert states(pipeline) == {"bad": "failed", "good": "finished"}
    assert bad.account.error == "LookupError: a fault of a plug-in"
    assert (sink.frames("bad"), sink.frames("good")) == ([0, 1, 2, 3, 4], list(range(8)))
    assert sink.events.count("end bad") == 1
    assert_balanced(pipeline)


def test_a_thinned_frame_is_not_shown_to_the_gate(run: Any) -> None:
    asked = []

    def gate(capture: Capture) -> bool:
        asked.append(capture.index)
        return True

    run([stream("a", keep=lambda capture: capture.index % 3 == 0, gate=gate)], [ListSink()])
    assert asked == [0, 3, 6]


def test_the_limit_counts_thinned_frames_too(run: Any) -> None:
    sink = ListSink()
    pipeline = run([stream("a", keep=lambda capture: capture.index % 3 == 0, limit=5)], [sink])
    account = pipeline.ledger.streams["a"]
    assert sink.frames("a") == [0, 3]
    assert (account.decoded, account.decimated, account.state) == (5, 3, "finished")


def test_a_source_that_cannot_be_closed_has_ended_anyway(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Sticks(ScriptedSource):
        def close(self) -> None:
            super().close()
            raise OSError("a fault of a plug-in")

    sink = ListSink()
    pipeline = run([stream("bad", Sticks(SCRIPT)), stream("good")], [sink], parallel=1)
    assert states(pipeline) == {"bad": "finished", "good": "finished"}
    assert (sink.frames("bad"), sink.frames("good")) == (list(range(8)), list(range(8)))
    assert "bad: closing failed" in caplog.text
    assert_balanced(pipeline)


def test_a_stream_for_which_there_is_no_thread_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuses(thread: threading.Thread) -> None:
        if thread.name == "read:bad":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuses)
    sink = ListSink()
    pipeline = Pipeline(FakeDetector(), [sink], FlowOptions(parallel=1))
    pipeline.start()
    pipeline.add(stream("bad"))
    pipeline.add(stream("good"))
    pipeline.finish()
    assert pipeline.join(DEADLINE_S)
    assert states(pipeline) == {"bad": "failed", "good": "finished"}
    assert pipeline.ledger.streams["bad"].error == "can't start new thread"
    assert sink.frames("good") == list(range(8))
    assert_balanced(pipeline)


class Overtaken(ScriptedSource):
    """Of every four frames it hands over the last."""

    def _capture(self, pts_s: float) -> Capture:
        self._index += 3
        return replace(super()._capture(pts_s), missed=3)


def test_frames_that_nobody_took_in_time_are_accounted_for(run: Any) -> None:
    sink = ListSink()
    pipeline = run([stream("gate", Overtaken(SCRIPT))], [sink], batch_size=2)
    account = pipeline.ledger.streams["gate"]
    assert sink.frames("gate") == list(range(3, 32, 4))
    assert [result.dropped_before for result in sink.results] == [3] * 8
    assert (account.decoded, account.processed, dict(account.dropped)) == (32, 8, {"overflow": 24})
    assert_balanced(pipeline)


def test_a_limit_that_such_frames_leap_over_holds(run: Any) -> None:
    sink = ListSink()
    gate = stream("gate", Overtaken(SCRIPT))
    gate.limit = 6
    pipeline = run([gate], [sink], batch_size=2)
    account = pipeline.ledger.streams["gate"]
    assert (account.decoded, account.state) == (8, "finished")
    assert sink.frames("gate") == [3, 7]
    assert_balanced(pipeline)


class Hangs(ScriptedSource):
    """Brings some frames, then hangs as native code does: deaf to stop, until it is let go."""

    def __init__(self, frames: int, *, in_open: bool = False) -> None:
        super().__init__([index / 25 for index in range(frames + 1)])
        self.hanging, self.let_go = threading.Event(), threading.Event()
        self._left, self._in_open = frames, in_open

    def open(self, stop: StopFlag) -> StreamInfo:
        info = super().open(stop)
        if self._in_open:
            self._hang()
        return info

    def read(self) -> Capture | None:
        if not self._left:
            self._hang()
            return self._capture(9.0)  # asked for long ago, and whatever was asked for meanwhile
        self._left -= 1
        return super().read()

    def _hang(self) -> None:
        self.hanging.set()
        assert self.let_go.wait(DEADLINE_S)


@pytest.mark.parametrize("in_open", [False, True])
def test_a_reader_that_hangs_is_given_up_and_never_heard_of_again(in_open: bool) -> None:
    sink = ListSink()
    pipeline = Pipeline(FakeDetector(), [sink], FlowOptions(fixed_batch=False))
    pipeline.start()
    source = Hangs(3, in_open=in_open)
    pipeline.add(stream("gate", source))
    assert source.hanging.wait(DEADLINE_S)
    earlier = pipeline.ledger.streams["gate"]
    assert pipeline.abandon("gate")
    assert not pipeline.abandon("gate"), "once"
    until(lambda: earlier.over, "its last frame has left")
    assert (earlier.state, earlier.processed, earlier.in_flight) == ("failed", 0 if in_open else 3, 0)
    pipeline.add(stream("gate"))  # anew, while the old thread still hangs
    until(lambda: pipeline.ledger.streams["gate"].over, "the new life")
    assert pipeline.alive().count("read:gate") == 1
    source.let_go.set()  # it wakes up with a frame in its hands, and finds that nobody wants it
    pipeline.finish()
    assert pipeline.join(DEADLINE_S), pipeline.alive()
    assert (earlier.decoded, earlier.state) == (0 if in_open else 3, "failed")
    assert states(pipeline) == {"gate": "finished", "gate~1": "failed"}
    assert sink.frames("gate") == list(range(8 if in_open else 11))
    assert source.closed
    assert_balanced(pipeline)


def test_a_reader_that_waits_for_the_detector_is_not_given_up() -> None:
    asked, go = threading.Event(), threading.Event()

    class Slow(FakeDetector):
        def submit(self, batch: Batch) -> Any:
            asked.set()
            assert go.wait(DEADLINE_S)
            return super().submit(batch)

    pipeline = Pipeline(Slow(), [ListSink()], FlowOptions(fixed_batch=False, batch_size=1))
    pipeline.start()
    pipeline.add(stream("gate", ScriptedSource([index / 25 for index in range(200)])))
    pipeline.finish()
    assert asked.wait(DEADLINE_S)
    gate = pipeline._roster.find("gate")
    assert gate is not None
    until(gate.fence.locked, "the reader waits for room in its lane")
    assert not pipeline.abandon("gate")
    go.set()
    assert pipeline.join(DEADLINE_S)
    assert states(pipeline) == {"gate": "finished"}
