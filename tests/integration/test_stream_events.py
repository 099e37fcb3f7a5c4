# SPDX-License-Identifier: Apache-2.0
"""What happens to a stream reaches the sinks in its place between the results, under both runners, whatever is full."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import SinkError, SourceUnavailable
from pipeline.events import StreamEvent
from pipeline.flow import Pipeline
from pipeline.flow.outlet import NOTICES_WAITING
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Capture
from pipeline.ledger import StreamLedger
from pipeline.sources import Reconnecting
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource
from pipeline.threads import StopFlag
from tests.background import DEADLINE_S, until

EOF = SourceUnavailable("camera: the feed ended", cause="eof")
REFUSED = SourceUnavailable("camera: connection refused", cause="refused")


def camera(*connections: list[Any] | BaseException) -> Stream:
    """A camera whose connections go as told; the last one ends the stream with an error of its own."""
    account = StreamLedger("gate", live=True)
    plans = list(connections)

    def make() -> ScriptedSource:
        plan = plans.pop(0)
        if isinstance(plan, BaseException):
            return ScriptedSource((), open_error=plan, live=True)
        return ScriptedSource(plan, live=True)

    source = Reconnecting(make, on_state=account.at, first_backoff_s=0.001)
    return Stream(source, [CopyStage()], account)


class TooOften(Exception):
    """Ends a script: a fault of a plug-in."""


def test_events_stand_between_the_results_of_their_stream(run: Callable[..., Pipeline]) -> None:
    sink, deaf = ListSink(wants_events=True), ListSink("deaf")
    frames = [0.1, 0.2, 0.3]
    stream = camera(REFUSED, REFUSED, [*frames, EOF], [*frames, TooOften()])
    pipeline = run([stream], [sink, deaf], batch_size=2)
    assert [what for _, what in sink.order] == ["down", "up", 0, 1, 2, "down", "up", 3, 4, 5, "ended"]
    assert [(event.cause, event.frame) for event in sink.told] == [
        ("refused", 0), (None, 0), ("eof", 3), (None, 3), (None, 6),
    ]  # fmt: skip
    assert sink.told[-1].detail == "TooOften: "
    account = pipeline.ledger.sinks["list"]
    assert (account.events_received, account.events_written, account.events_lost) == (5, 5, 0)
    assert deaf.told == []
    assert pipeline.ledger.sinks["deaf"].events_received == 0
    assert sink.events == ["open", "begin gate", "end gate", "close"], "an event before `begin` is none of its own"


class Resized(ScriptedSource):
    """Its pictures are smaller from the third on, and its time stamps broke with the fourth."""

    def read(self) -> Capture | None:
        if self._index == 2:
            self._size = (32, 24)
        if self._index == 3:
            self.counters.discontinuities = 1
        return super().read()


def test_what_the_frames_tell(run: Callable[..., Pipeline]) -> None:
    sink = ListSink(wants_events=True)
    stream = Stream(Resized([0.1 * n for n in range(6)]), [CopyStage()], StreamLedger("gate"))
    run([stream], [sink])
    assert [what for _, what in sink.order] == ["up", 0, 1, "params_changed", 2, 3, 4, 5, "ended"]
    assert [result.width for result in sink.results] == [64, 64, 32, 32, 32, 32]
    assert sink.told[1].detail == "64x48, now 32x24"
    assert stream.account.life.param_changes == 1
    assert stream.account.as_dict(0)["discontinuities"] == 1


def test_a_sink_that_cannot_keep_an_event_is_degraded_and_tried_again(run: Callable[..., Pipeline]) -> None:
    class Full(ListSink):
        def event(self, event: StreamEvent) -> None:
            if event.kind == "down":
                raise SinkError("disk full")
            super().event(event)

    sink = Full(wants_events=True)
    pipeline = run([camera([0.1, EOF], [0.1, TooOften()])], [sink])
    account = pipeline.ledger.sinks["list"]
    assert [event.kind for event in sink.told] == ["up", "up", "ended"]
    assert (account.events_received, account.events_written, account.events_lost) == (4, 3, 1)
    assert account.lost_data
    assert account.state == "ok", "results are kept again"


def running(sink: ListSink, *streams: Stream) -> Pipeline:
    options = FlowOptions(fixed_batch=False, outlet_policy="freshest", outlet_capacity=2)
    pipeline = Pipeline(FakeDetector(), [sink], options)
    pipeline.start()
    for stream in streams:
        pipeline.add(stream)
    return pipeline


def test_results_push_no_event_out_of_a_full_outlet() -> None:
    gate = threading.Event()
    sink = ListSink(wants_events=True, gate=gate)
    many = [0.01 * n for n in range(60)]
    pipeline = running(sink, camera([*many, EOF], [*many, TooOften()]))
    until(lambda: pipeline.ledger.streams["gate"].processed == 120, "both connections are over")
    account = pipeline.ledger.sinks["list"]
    assert account.lost["overflow"] > 100
    gate.set()
    pipeline.finish()
    assert pipeline.join(DEADLINE_S)
    assert [event.kind for event in sink.told] == ["up", "down", "up", "ended"]
    assert account.events_lost == 0


def test_events_for_a_sink_that_hangs_are_bounded_and_the_newest_are_kept() -> None:
    gate = threading.Event()
    sink = ListSink(wants_events=True, gate=gate)
    pipeline = running(sink)
    source = ScriptedSource([threading.Event()], live=True)
    stream = Stream(source, [CopyStage()], StreamLedger("gate", live=True))
    pipeline.add(stream)
    until(lambda: stream.opened, "it is open")
    flaps = NOTICES_WAITING
    for _ in range(flaps):
        stream.account.life.arrived(0, 0, 0, None, 0)
        stream.account.life.stands_still("no frame for 4 s")
        stream.account.life.moves()
    account = pipeline.ledger.sinks["list"]
    until(lambda: account.events_received == 2 * flaps + 1, "all were told")
    assert account.events_received - account.events_written - account.events_lost <= NOTICES_WAITING + 1
    gate.set()
    pipeline.stop()
    assert pipeline.join(DEADLINE_S)
    assert sink.told[-1].kind == "ended"
    assert account.events_lost >= flaps - 2
    assert account.served


def test_an_event_after_the_end_disturbs_nobody() -> None:
    sink = ListSink(wants_events=True)
    stream = Stream(ScriptedSource([0.1]), [CopyStage()], StreamLedger("gate"))
    pipeline = running(sink, stream)
    pipeline.finish()
    assert pipeline.join(DEADLINE_S)
    stream.account.life.end("failed", "nobody listens")
    assert [event.kind for event in sink.told] == ["up", "ended"]


@pytest.mark.parametrize("abort", [False, True])
def test_a_camera_that_was_never_reached_is_told_and_ends(abort: bool) -> None:
    sink = ListSink(wants_events=True)
    pipeline = running(sink, camera(*[REFUSED] * 100_000))
    until(lambda: sink.told, "the outage")
    if abort:
        pipeline.abort()
    else:
        pipeline.stop()
    assert pipeline.join(DEADLINE_S)
    kinds = [event.kind for event in sink.told]
    assert kinds[0] == "down"
    assert kinds.count("down") == 1
    assert abort or kinds == ["down", "ended"]


def test_wake_ends_the_slow_lane_only() -> None:
    denied = SourceUnavailable("camera: authentication failed", cause="auth")
    naps = StopFlag()
    tried = threading.Semaphore(0)

    def make() -> ScriptedSource:
        tried.release()
        return ScriptedSource((), open_error=denied)

    account = StreamLedger("gate", live=True)
    source = Reconnecting(make, on_state=account.at, slow_lane_s=3600)
    thread = threading.Thread(target=source.open, args=(naps,), daemon=True)
    thread.start()
    assert tried.acquire(timeout=DEADLINE_S)
    for attempts in range(2, 5):
        until(lambda: account.state == "auth_failed" and source._nap is not None, "it waits")
        source.wake()
        assert tried.acquire(timeout=DEADLINE_S)
        until(lambda attempts=attempts: account.life.attempts == attempts, "the next attempt")
    naps.set()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    source.wake()  # nobody waits: nothing happens
