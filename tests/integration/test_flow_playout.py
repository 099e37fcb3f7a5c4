# SPDX-License-Identifier: Apache-2.0
"""Whole flows with a playout delay: no result leaves before its time, and none is lost whatever ends the run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.ledger import StreamLedger
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource
from pipeline.timing import PTS, Mark, PlayoutDelay, elapsed, now_ns, part_times, stage_times
from tests.background import DEADLINE_S, until

MS = 1_000_000
DELAY_NS = 60 * MS
FRAMES = 12


def stream(name: str = "gate", script: Any = None, delay_ns: int = DELAY_NS) -> Stream:
    source = ScriptedSource([n / 100 for n in range(FRAMES)] if script is None else script)
    delay = PlayoutDelay(delay_ns) if delay_ns else None
    return Stream(source, [CopyStage()], StreamLedger(name, paced=True, playout=delay))


def begun(*streams: Stream, sink: ListSink, **options: Any) -> Pipeline:
    pipeline = Pipeline(FakeDetector(), [sink], FlowOptions(batch_size=1, **options))
    pipeline.start()
    for each in streams:
        pipeline.add(each)
    return pipeline


def paced() -> Iterator[float]:
    """A camera of 100 frames a second."""
    pause, began_ns = threading.Event(), now_ns()
    for number in range(FRAMES):
        pause.wait(max(0.0, number / 100 - (now_ns() - began_ns) / 1e9))
        yield number / 100


def test_no_result_leaves_before_its_time_and_the_parts_add_up() -> None:
    sink = ListSink()
    gate = stream(script=paced())
    pipeline = begun(gate, sink=sink)
    pipeline.finish()
    assert pipeline.join(DEADLINE_S)
    assert [result.frame for result in sink.results] == list(range(FRAMES))
    least_ns: int | None = None
    for result in sink.results:
        trace = result.trace
        delay_ns = trace[Mark.PREPARE] - trace[PTS]
        least_ns = delay_ns if least_ns is None else min(least_ns, delay_ns)
        # The least delay so far may have grown by 240 ppm meanwhile, so this is the earliest that it may leave.
        assert trace[Mark.PLAYED] >= trace[PTS] + least_ns + DELAY_NS
        assert trace[Mark.PLAYED] >= trace[Mark.FOLLOWED]
        assert sum(part_times(trace).values()) == sum(stage_times(trace).values()) == elapsed(trace)
    told = pipeline.ledger.as_dict()["streams"]["gate"]
    assert told["waits"]["playout"]["count"] == told["frames"]["processed"] == FRAMES
    assert told["playout"]["results"] == FRAMES
    assert told["playout"]["delay_ms"] == 60
    assert pipeline.ledger.unbalanced() == {}


def test_inline_and_threaded_runs_publish_the_same() -> None:
    threaded, inline = ListSink(), ListSink()
    pipeline = begun(stream("a"), stream("b", delay_ns=0), sink=threaded)
    pipeline.finish()
    assert pipeline.join(DEADLINE_S)
    Pipeline(FakeDetector(), [inline], FlowOptions(batch_size=1)).run_inline([stream("a"), stream("b", delay_ns=0)])

    def told(sink: ListSink, name: str) -> list[Any]:
        own = [result for result in sink.results if result.stream == name]
        return [(one.frame, one.dropped_before, one.detections.xyxy.tolist()) for one in own]

    for name in ("a", "b"):
        assert told(threaded, name) == told(inline, name)
        assert len(told(inline, name)) == FRAMES


def test_a_stop_publishes_at_once_what_is_held() -> None:
    """The delay is ten minutes: who waited for it would not end in time."""
    sink = ListSink()
    held = threading.Event()
    gate = stream(script=[*(n / 100 for n in range(FRAMES)), held], delay_ns=600_000 * MS)
    pipeline = begun(gate, sink=sink)
    until(lambda: gate.account.playout.results == FRAMES)
    assert sink.results == []
    pipeline.stop()
    assert pipeline.join(DEADLINE_S)
    assert [result.frame for result in sink.results] == list(range(FRAMES))
    assert gate.account.playout.late == 0
    assert pipeline.ledger.unbalanced() == {}


def test_a_stream_that_is_removed_holds_nothing_back_and_others_go_on() -> None:
    sink = ListSink()
    script = [*(n / 100 for n in range(FRAMES)), threading.Event()]
    streams = [stream(name, script, 600_000 * MS) for name in ("gate", "yard")]
    pipeline = begun(*streams, sink=sink)
    until(lambda: all(each.account.playout.results == FRAMES for each in streams))
    pipeline.remove("gate")
    until(lambda: streams[0].account.over)
    assert [(result.stream, result.frame) for result in sink.results] == [("gate", n) for n in range(FRAMES)]
    pipeline.stop()
    assert pipeline.join(DEADLINE_S)
    assert len(sink.results) == 2 * FRAMES
    assert pipeline.ledger.unbalanced() == {}


def test_a_stop_after_the_stream_has_ended_publishes_at_once_too() -> None:
    sink = ListSink()
    gate = stream(delay_ns=600_000 * MS)
    pipeline = begun(gate, sink=sink)
    pipeline.finish()
    until(lambda: gate.account.closed and gate.account.playout.results == FRAMES)
    assert not pipeline.join(0.05)
    assert sink.results == []
    pipeline.stop()
    assert pipeline.join(DEADLINE_S)
    assert len(sink.results) == FRAMES


def test_an_abort_ends_at_once_and_every_frame_is_accounted_for() -> None:
    sink = ListSink()
    gate = stream(script=[*(n / 100 for n in range(FRAMES)), threading.Event()], delay_ns=600_000 * MS)
    pipeline = begun(gate, sink=sink)
    until(lambda: gate.account.playout.results == FRAMES)
    pipeline.abort()
    assert pipeline.join(DEADLINE_S)
    account = gate.account
    assert account.processed + account.dropped["shutdown"] == FRAMES
    assert pipeline.ledger.unbalanced() == {}


def test_frames_that_do_not_come_at_a_pace_of_their_own_are_not_held() -> None:
    sink = ListSink()
    source = ScriptedSource([n / 100 for n in range(FRAMES)])
    gate = Stream(source, [CopyStage()], StreamLedger("gate", playout=PlayoutDelay(600_000 * MS)))
    pipeline = begun(gate, sink=sink)
    pipeline.finish()
    assert pipeline.join(DEADLINE_S)
    assert len(sink.results) == FRAMES
