# SPDX-License-Identifier: Apache-2.0
"""What is read ahead of a simulation: as much as may be, in order, and each error where it came."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrivals import FrameLog, ServiceTimes, Virtual
from pipeline.errors import SourceUnavailable
from pipeline.events import Condition
from pipeline.flow import Pipeline
from pipeline.flow.lanes import Terms
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Capture, StreamInfo
from pipeline.ledger import StreamLedger
from pipeline.replaying.ahead import BYTES, FRAMES, Ahead
from pipeline.replaying.behind import Behind
from pipeline.replaying.simulated_clock import SimulatedClock
from pipeline.replaying.simulation import Simulation
from pipeline.replaying.timed import TimedDetector, TimedStage
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource
from pipeline.threads import StopFlag
from pipeline.timing import Mark, PlayoutDelay
from tests.arrivals import BEGAN_NS, MS, Nothing
from tests.background import Background, until


class Telling(ScriptedSource):
    """Comes one millisecond later with each frame, says so each time, and knows how many were read."""

    def __init__(self, script: list[float | BaseException], reading: Virtual, size: tuple[int, int]) -> None:
        super().__init__(script, size=size, live=True, clock=reading)
        self.reads = 0
        self.on_state = lambda condition: None
        self._reading = reading

    def open(self, stop: StopFlag) -> StreamInfo:
        self.on_state(Condition("connecting"))
        return super().open(stop)

    def read(self) -> Capture | None:
        self.reads += 1
        self._reading.reach(self.reads * MS, StopFlag())
        self.counters.reconnects = self.reads
        return super().read()


def ahead_of(
    frames: int, error: BaseException | None = None, size: tuple[int, int] = (64, 48), name: str = "gate"
) -> tuple[Ahead, Telling, Virtual]:
    reading, clock = Virtual(Nothing()), Virtual(Nothing())
    script: list[float | BaseException] = [float(number) for number in range(frames)]
    source = Telling(script if error is None else [*script, error], reading, size)
    ahead = Ahead(name, lambda tell: source, reading, clock, FrameLog(iter(()), "frame"), by_read=False)
    return ahead, source, clock


def taken(ahead: Ahead) -> Iterator[int]:
    ahead.open(StopFlag())
    while (capture := ahead.read()) is not None:
        yield capture.index


@given(frames=st.integers(0, 3 * FRAMES), fails=st.booleans())
def test_each_is_heard_of_when_it_is_taken(frames: int, fails: bool) -> None:
    """Counts and the time are those of the frame that comes next, wherever the thread that reads has got to."""
    ahead, source, clock = ahead_of(frames, SourceUnavailable("gone") if fails else None)
    seen: list[int] = []
    try:
        for index in taken(ahead):
            seen.append(index)
            assert (clock.now_ns(), ahead.counters.reconnects) == (BEGAN_NS + (index + 1) * MS, index + 1)
            ahead.look()
            assert (clock.now_ns(), ahead.counters.reconnects) == (BEGAN_NS + (index + 2) * MS, index + 2)
        assert not fails
    except SourceUnavailable:
        assert fails
    assert seen == list(range(frames))
    ahead.close()
    assert (source.closed, source.reads) == (1, frames + 1), "and nothing after the end"


@pytest.mark.parametrize(("size", "most"), [((64, 48), 2 * FRAMES), ((1920, 1080), 6), ((3840, 2160), 2)])
def test_pictures_that_are_held_are_bounded(size: tuple[int, int], most: int) -> None:
    """By number, and large ones by what they take; a grey picture takes a byte for each pixel."""
    in_a_row = min(FRAMES, -(-BYTES // (size[0] * size[1])))
    assert most == 2 * in_a_row
    ahead, source, _ = ahead_of(40, size=size)
    for index in taken(ahead):
        if index == 0:
            until(lambda: source.reads == most, "reading ahead, as far as it may")
        ahead.look()
        assert source.reads - (index + 1) <= most
    ahead.close()


def test_who_stops_reads_no_further() -> None:
    ahead, source, _ = ahead_of(10_000)
    stop = StopFlag()
    ahead.open(stop)
    assert ahead.read() is not None
    stop.set()
    assert ahead.read() is None
    ahead.close()
    assert source.closed == 1
    assert source.reads <= 2 * FRAMES


def test_what_a_plug_in_raises_costs_its_stream_only() -> None:
    """As in a run, and no frame that it gave before."""
    clock = SimulatedClock(BEGAN_NS, 0)
    pipeline = Pipeline(FakeDetector(), [sink := ListSink()], FlowOptions(batch_size=1, fixed_batch=False), clock=clock)
    streams = []
    for name, error in (("bad", ValueError("it cannot go on")), ("good", None)):
        ahead, _, virtual = ahead_of(FRAMES + 2, error, name=name)
        terms = Terms(policy="every_frame")
        account = StreamLedger(name, live=True, clock=virtual)
        streams.append(Stream(ahead, [TimedStage(CopyStage(), ahead, clock)], account, terms=terms))
    behind = Behind(clock)
    pipeline.run_inline(streams, Simulation(clock, 1, behind), behind.after)
    assert {name: account.state for name, account in pipeline.ledger.streams.items()} == {
        "bad": "failed",
        "good": "finished",
    }
    assert pipeline.ledger.streams["bad"].error == "ValueError: it cannot go on"
    for name in ("bad", "good"):
        assert [result.frame for result in sink.results if result.stream == name] == list(range(FRAMES + 2))


def test_what_a_stop_lets_go_early_leaves_when_that_was() -> None:
    """Results that wait for their time leave at once then, and not before the clock began."""
    clock = SimulatedClock(BEGAN_NS, 0)
    pipeline = Pipeline(FakeDetector(), [sink := ListSink()], FlowOptions(batch_size=1, fixed_batch=False), clock=clock)
    ahead, _, virtual = ahead_of(3 * FRAMES)
    delay = PlayoutDelay(10_000 * MS)
    stream = Stream(
        ahead,
        [TimedStage(CopyStage(), ahead, clock)],
        StreamLedger("gate", live=True, clock=virtual, playout=delay),
        keep=lambda capture: capture.index < FRAMES or pipeline.stop() is None,
        terms=Terms(policy="every_frame"),
    )
    behind = Behind(clock, 0)  # so that they are held when the stop comes
    pipeline.run_inline([stream], Simulation(clock, 1, behind), behind.after)
    assert len(sink.results) == FRAMES + 1
    assert all(BEGAN_NS < one.trace[Mark.PLAYED] < BEGAN_NS + 10_000 * MS for one in sink.results[:FRAMES])


def test_a_reader_that_hangs_is_left_behind_by_who_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.threads.crew.REST_S", 0.05)
    clock = SimulatedClock(BEGAN_NS, 0)
    pipeline = Pipeline(FakeDetector(), [sink := ListSink()], FlowOptions(batch_size=1, fixed_batch=False), clock=clock)
    ahead, source, virtual = ahead_of(3 * FRAMES)
    hangs, over = threading.Event(), threading.Event()
    read = source.read

    def hang() -> Capture | None:
        if source.reads == FRAMES:
            hangs.set()
            assert over.wait(30)
        return read()

    source.read = hang  # type: ignore[method-assign]
    stream = Stream(ahead, [TimedStage(CopyStage(), ahead, clock)], StreamLedger("gate", live=True, clock=virtual))

    def give_up() -> None:
        assert hangs.wait(30)
        pipeline.abort()
        ahead.give_up()

    other = threading.Thread(target=give_up)
    other.start()
    behind = Behind(clock)
    pipeline.run_inline([stream], Simulation(clock, 1, behind), behind.after)
    other.join()
    assert not over.is_set(), "it hangs still"
    assert source.closed == 0
    assert len(sink.results) <= FRAMES
    over.set()


def test_a_model_that_hangs_while_it_is_warmed_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.threads.crew.REST_S", 0.05)
    hangs, begun = threading.Event(), threading.Event()

    class Hangs(FakeDetector):
        def warm(self, sizes: Sequence[int]) -> None:
            begun.set()
            hangs.wait(30)

    clock = SimulatedClock(BEGAN_NS, 0)
    timed = TimedDetector(Hangs(), 1, clock, ServiceTimes({}))
    pipeline = Pipeline(timed, [sink := ListSink()], FlowOptions(batch_size=1, fixed_batch=False), clock=clock)
    ahead, source, _ = ahead_of(FRAMES)
    behind = Behind(clock)
    gate = Stream(ahead, [TimedStage(CopyStage(), ahead, clock)], StreamLedger("gate"))
    running = Background(lambda: pipeline.run_inline([gate], Simulation(clock, 1, behind), behind.after))
    assert begun.wait(30)
    pipeline.abort()
    timed.give_up()
    running.result()
    assert (gate.account.state, source.reads, sink.results) == ("stopped", 0, [])
    hangs.set()
