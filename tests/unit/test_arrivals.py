# SPDX-License-Identifier: Apache-2.0
"""Service times, the log of a stream, and the simulation against a schedule worked out by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.arrivals import Comparison, FrameLog, ServiceLog, ServiceTimes, Tape, Virtual
from pipeline.arrivals.connection import RecordedConnection
from pipeline.arrivals.services import MOST_SAMPLES, Service
from pipeline.errors import InferenceError, ModelHung, SourceInvalid, SourceTimeout, SourceUnavailable, StageError
from pipeline.flow import Pipeline
from pipeline.flow.lanes import Terms
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Batch, Capture, Detections, DropReason, Geometry, InputSpec, Picture, StreamInfo, Uint8Array
from pipeline.ledger import StreamLedger
from pipeline.protocols import Stage
from pipeline.replaying.ahead import Ahead
from pipeline.replaying.behind import MOST_FRAMES, Behind
from pipeline.replaying.simulated_clock import SimulatedClock
from pipeline.replaying.simulation import Simulation
from pipeline.replaying.timed import Later, TimedDetector, TimedStage
from pipeline.sources.opening import Limits
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource, one_box
from pipeline.threads import Closed, StopFlag
from pipeline.timing import FRAME, Mark, PlayoutDelay, published_ns, stage_times
from tests.arrivals import BEGAN_NS, MS, Nothing

OF_THIS_MACHINE = ("cpu_s", "tracker")


class TestServiceTimes:
    def test_samples_come_in_their_order_over_and_over(self) -> None:
        log = ServiceLog()
        for infer_ns in (5, 9, 7):
            log.add(2, infer_ns, 1)
        times = ServiceTimes(log.as_dict())
        assert [times.next(2).infer_ns for _ in range(5)] == [5, 9, 7, 5, 9]
        assert log.as_dict()["2"]["median_ns"] == 8

    def test_sizes_that_were_not_measured_lie_between_or_beyond_the_others(self) -> None:
        times = ServiceTimes({"2": {"samples_ns": [[20, 2]]}, "4": {"samples_ns": [[30, 4]]}})
        assert times.next(3) == Service(25, 3)
        assert times.next(8) == Service(60, 8)
        assert times.next(1) == Service(10, 1)

    @given(st.integers(0, 5 * MOST_SAMPLES))
    def test_what_is_kept_is_bounded_and_spread_over_the_whole_run(self, count: int) -> None:
        log = ServiceLog()
        for number in range(count):
            log.add(1, number, 0)
        kept = [infer for infer, _ in log.as_dict().get("1", {"samples_ns": []})["samples_ns"]]
        assert len(kept) <= MOST_SAMPLES
        assert len(kept) >= min(count, MOST_SAMPLES // 2)
        assert len({after - before for before, after in pairwise(kept)}) <= 1, "evenly"
        assert log.as_dict().get("1", {"count": 0})["count"] == count

    @pytest.mark.parametrize("nonsense", [{"0": [[1, 1]]}, {"x": [[1, 1]]}, {"1": [[-1, 0]]}, {"1": [[1]]}])
    def test_nonsense_is_refused(self, nonsense: dict[str, Any]) -> None:
        with pytest.raises((ValueError, TypeError)):
            ServiceTimes({size: {"samples_ns": samples} for size, samples in nonsense.items()})


class TestTape:
    def test_connections_losses_and_failures_in_turn(self) -> None:
        log = [
            {"state": "connecting", "at": 1},
            {"state": "backoff", "cause": "refused", "at": 2},
            {"opened": 1, "at": 3},
            {"packet": 1, "at": 4},
            {"state": "live", "at": 5},
            {"packet": 1, "at": 6, "gap": 3},
            {"state": "backoff", "cause": "timeout", "at": 7},
            {"opened": 2, "at": 8},
            {"packet": 2, "at": 9},
        ]
        tape = Tape("gate", iter(log))
        assert tape.next_attempt() == log[1]
        assert tape.next_attempt() == log[2]
        assert [tape.next_packet(1), tape.next_packet(1), tape.next_packet(1)] == [log[3], log[5], None]
        assert tape.gaps == 3
        assert tape.take_loss() == log[6]
        assert tape.next_attempt() == log[7]
        assert tape.next_packet(1) is None, "it is another connection's"
        assert not tape.ended
        tape.tear(2)
        assert (tape.torn, tape.ended, tape.next_attempt()) == (1, True, None)

    def test_a_connection_without_a_packet_fails_when_it_did(self, tmp_path: Path) -> None:
        opened = {"opened": 1, "at": 3, "kind": "camera", "codec": "h264", "width": 0, "height": 0, "fps": None}
        tape = Tape("gate", iter([opened, {"state": "backoff", "cause": "timeout", "at": 9 * MS}]))
        line, clock = tape.next_attempt(), Virtual(Nothing())
        assert line is not None
        connection = RecordedConnection(tmp_path, tape, line, clock, StopFlag().set, Limits(), "none")
        with pytest.raises(SourceTimeout):
            connection.open(StopFlag())
        assert clock.now_ns() == BEGAN_NS + 9 * MS
        assert (tape.ended, tape.torn) == (True, 0)

    @pytest.mark.parametrize(
        ("line", "kind", "cause"),
        [
            ({"state": "backoff", "cause": "timeout"}, SourceTimeout, "timeout"),
            ({"state": "auth_failed", "cause": "auth"}, SourceUnavailable, "auth"),
            ({"state": "failed", "cause": "invalid_data"}, SourceInvalid, "invalid_data"),
            ({"state": "backoff", "cause": "of another version"}, SourceUnavailable, "io"),
        ],
    )
    def test_losses_are_the_errors_that_they_were(self, line: dict[str, Any], kind: type, cause: str) -> None:
        error = Tape("gate", iter([])).failure(line)
        assert (type(error), error.cause) == (kind, cause)


def test_frames_are_found_in_about_their_order() -> None:
    log = FrameLog(iter([{"read": at} for at in (10, 30, 20, 40)]), "read")
    assert log.find(10) == {"read": 10}
    assert log.find(20) is None, "not there yet: a later one was seen before"
    assert log.find(30) == {"read": 30}
    assert log.find(40) == {"read": 40}
    assert log.find(20) == {"read": 20}, "it waited"
    assert log.find(99) is None


def test_frames_of_one_packet_have_a_line_each() -> None:
    """As where a decoder makes two pictures of a packet."""
    outcomes = ((10, "processed"), (10, "overflow"), (20, "stale"))
    kept: list[dict[str, Any]] = [{"read": at, "outcome": outcome} for at, outcome in outcomes]
    log = FrameLog(iter(kept), "read")
    assert [log.find(at) for at in (10, 10, 10, 20)] == [*kept[:2], None, kept[2]]
    late = FrameLog(iter(kept), "read")
    assert [late.find(at) for at in (20, 10, 10)] == [kept[2], *kept[:2]], "others may be asked for before"
    comparison = Comparison(FrameLog(iter(kept), "read"))
    reasons: tuple[DropReason | None, ...] = (None, "overflow")
    assert [comparison.outcome(10, reason) for reason in reasons] == ["processed", "overflow"]
    assert (comparison.frames, comparison.same) == (2, 2)


class Script:
    """A camera whose frames are read at these times (milliseconds), on the stream's own virtual clock."""

    truncation = None

    def __init__(self, at_ms: Sequence[float], clock: Virtual) -> None:
        self._inner = ScriptedSource([at / 1000 for at in at_ms], clock=clock, live=True)
        self.counters = self._inner.counters
        self._times = iter(at_ms)
        self._clock = clock

    def open(self, stop: StopFlag) -> StreamInfo:
        return self._inner.open(stop)

    def read(self) -> Capture | None:
        at_ms = next(self._times, None)
        if at_ms is not None:
            self._clock.reach(round(at_ms * MS), StopFlag())
        return self._inner.read()

    def close(self) -> None:
        self._inner.close()


def ahead_of(at_ms: Sequence[float], clock: Virtual, taken: Iterator[dict[str, Any]] = iter(())) -> Ahead:  # noqa: B008
    reading = Virtual(Nothing())
    return Ahead("gate", lambda tell: Script(at_ms, reading), reading, clock, FrameLog(taken, "read"), by_read=True)


def simulate(
    streams: Mapping[str, Sequence[float]],
    service_ms: dict[int, float],
    *,
    batch: int = 1,
    workers: int = 1,
    wait_ms: float = 0.0,
    prepare_ms: float = 0.0,
    terms: Terms | None = None,
    most: int = MOST_FRAMES,
    network: FakeDetector | None = None,
    stage: Callable[[str], Stage] = lambda name: CopyStage(),
    delay_ms: float | None = 0.0,
) -> tuple[ListSink, Pipeline, dict[str, list[tuple[int, str]]]]:
    """Frames at these times through batches that take so long; what was published, and what became of each frame."""
    clock = SimulatedClock(BEGAN_NS, 0)
    measured = {str(size): {"samples_ns": [[round(took * MS), 0]]} for size, took in service_ms.items()}
    later = Later()
    detector = TimedDetector(network or FakeDetector(), workers, clock, ServiceTimes(measured), later=later)
    options = FlowOptions(batch_size=batch, fixed_batch=False, max_wait_ms=wait_ms, workers=workers)
    sink = ListSink()
    pipeline = Pipeline(detector, [sink], options, clock=clock)
    pipeline.ledger.pauses = None
    outcomes: dict[str, list[tuple[int, str]]] = {name: [] for name in streams}

    def made(name: str) -> Stream:
        virtual = Virtual(Nothing())
        taken: Iterator[dict[str, Any]] = (
            {"read": round(at * MS), "prepare": round(at * MS), "prepared": round((at + prepare_ms) * MS)}
            for at in streams[name]
        )
        ahead = ahead_of(streams[name], virtual, taken)
        delay = None if delay_ms == 0 else PlayoutDelay(percentile=99)
        if delay_ms:
            delay = PlayoutDelay(round(delay_ms * MS))
        account = StreamLedger(name, live=True, clock=virtual, playout=delay)
        return Stream(
            ahead,
            [TimedStage(stage(name), ahead, clock, later)],
            account,
            terms=terms or Terms(policy="freshest"),
            witness=lambda trace, reason: outcomes[name].append((trace[FRAME], reason or "processed")),
        )

    behind = Behind(clock, most)
    pipeline.run_inline([made(name) for name in streams], Simulation(clock, workers, behind), behind.after)
    detector.rest()
    return sink, pipeline, outcomes


def test_a_playout_delay_that_follows_its_stream_comes_to_the_same_twice() -> None:
    streams = {"gate": [40.0 * n for n in range(100)], "yard": [5 + 40.0 * n for n in range(100)]}

    def play() -> tuple[list[int], list[float]]:
        sink, pipeline, _ = simulate(streams, {1: 15, 2: 25}, batch=2, delay_ms=None)
        told = pipeline.ledger.as_dict()["streams"]
        return [published_ns(one.trace) for one in sink.results], [
            told[name]["playout"]["delay_ms"] for name in streams
        ]

    first = play()
    assert first == play()
    assert all(15 <= delay_ms < 60 for delay_ms in first[1])


def drive(pipeline: Pipeline, stream: Stream, clock: SimulatedClock) -> None:
    """One stream and one worker, to the end."""
    behind = Behind(clock)
    pipeline.run_inline([stream], Simulation(clock, 1, behind), behind.after)


@pytest.mark.parametrize("most", [0, MOST_FRAMES])
def test_a_playout_delay_holds_results_to_the_nanosecond_and_changes_nothing_else(most: int) -> None:
    streams: dict[str, Sequence[float]] = {"gate": [0, 40, 80, 120, 160, 200], "yard": [5, 45, 85, 125, 165, 205]}

    def play(delay_ms: float) -> tuple[list[tuple[str, int, int]], dict[str, list[tuple[int, str]]]]:
        sink, pipeline, outcomes = simulate(streams, {1: 15, 2: 25}, batch=2, most=most, delay_ms=delay_ms)
        assert not pipeline.ledger.unbalanced()
        return [(one.stream, one.frame, published_ns(one.trace) - BEGAN_NS) for one in sink.results], outcomes

    (prompt, decided), (held, same), again = play(0), play(50), play(50)
    assert (held, same) == again
    assert same == decided
    assert {(name, frame) for name, frame, _ in prompt} == {(name, frame) for name, frame, _ in held}
    ready_ns = {(name, frame): at for name, frame, at in prompt}
    for name, frame, at in held:
        due_ns = round((streams[name][frame] + 50) * MS)
        leak_ns = round(streams[name][frame] * MS) // 4096
        assert max(due_ns, ready_ns[name, frame]) <= at <= max(due_ns + leak_ns, ready_ns[name, frame])


def by_hand(at_ms: Sequence[float], service_ms: float, lane: int = 2) -> tuple[list[int], list[int]]:
    """One stream, one worker, batches of one, the freshest two wait, and only the freshest of a stream that has lost
    frames before the latest one that was served, or since: which frames are served, and which are not."""
    waiting: list[int] = []
    served: list[int] = []
    lost: list[int] = []
    free_at = 0.0
    loses = lost_before = False

    def serve() -> None:
        nonlocal loses, lost_before
        served.append(waiting.pop(0))
        loses, lost_before = False, loses

    for number, at in enumerate(at_ms):
        while waiting and free_at <= at:  # a batch that ends now is before a frame that comes now
            serve()
            free_at += service_ms
        room = lane // 2 if loses or lost_before else lane
        while len(waiting) >= room:
            lost.append(waiting.pop(0))
            loses = True
        waiting.append(number)
        if free_at <= at:
            serve()
            free_at = at + service_ms
    return served + waiting, lost


class TestSimulation:
    @given(
        st.lists(st.integers(1, 40), min_size=1, max_size=30),
        st.integers(1, 90),
    )
    def test_it_is_what_one_works_out_by_hand(self, gaps_ms: list[int], service_ms: int) -> None:
        at_ms = [float(sum(gaps_ms[: number + 1])) for number in range(len(gaps_ms))]
        _, _, outcomes = simulate({"gate": at_ms}, {1: service_ms})
        served, lost = by_hand(at_ms, service_ms)
        assert [frame for frame, outcome in outcomes["gate"] if outcome == "processed"] == served
        assert [frame for frame, outcome in outcomes["gate"] if outcome == "overflow"] == lost

    def test_marks_are_the_times_of_the_recording_and_of_its_batches(self) -> None:
        sink, pipeline, _ = simulate({"gate": [10, 50, 60]}, {1: 30}, prepare_ms=4)
        parts = pipeline.ledger.as_dict()["streams"]["gate"]
        assert [result.trace[Mark.READ] - BEGAN_NS for result in sink.results] == [10 * MS, 50 * MS, 60 * MS]
        # Ready at 14, 54 and 64; served at 14, 54 and 84; done at 44, 84 and 114.
        done = [max(result.trace[: Mark.DONE + 1]) - BEGAN_NS for result in sink.results]
        assert done == [44 * MS, 84 * MS, 114 * MS]
        assert parts["stages"]["infer"]["mean_ms"] == 30.0
        assert parts["stages"]["preprocess"]["mean_ms"] == 4.0
        assert parts["waits"]["scheduler"]["max_ms"] == 20.0
        assert pipeline.ledger.as_dict()["wall_s"] == pytest.approx(0.114)

    def test_two_workers_serve_side_by_side(self) -> None:
        _, pipeline, outcomes = simulate({"a": [10, 50], "b": [10, 50]}, {1: 35}, workers=2)
        assert {name: [outcome for _, outcome in each] for name, each in outcomes.items()} == {
            "a": ["processed"] * 2,
            "b": ["processed"] * 2,
        }
        assert pipeline.ledger.as_dict()["busy_s"]["workers"] == {"detect:0": 0.07, "detect:1": 0.07}

    def test_a_batch_waits_for_the_others_as_long_as_the_scheduler_says(self) -> None:
        """From a burst it learns that a batch costs 4 ms whatever is in it; b comes 1 ms after a."""
        times = [1.0, 2.0, 3.0, *(40.0 * number for number in range(1, 25))]
        streams = {"a": times, "b": [at + 1 for at in times]}
        _, pipeline, _ = simulate(streams, {1: 5, 2: 6, 4: 8}, batch=4, wait_ms=50)
        assert pipeline.ledger.batch_sizes[2] >= 12
        never = simulate(streams, {1: 5, 2: 6, 4: 8}, batch=4, wait_ms=0)[1]
        assert never.ledger.batch_sizes[2] <= 2
        others_free = simulate(streams, {1: 5, 2: 6, 4: 8}, batch=4, wait_ms=50, workers=3)[1]
        assert others_free.ledger.batch_sizes[2] <= 2, "nothing is waited for while another worker is free"

    def test_what_would_come_too_late_is_shed(self) -> None:
        terms = Terms(policy="freshest", staleness_ns=50 * MS)
        _, pipeline, outcomes = simulate({"gate": [10, 20, 21, 22, 23, 90]}, {1: 30}, terms=terms)
        # 20 is lost to 22, 21 and 22 to 23, since one was lost; when the first is done, at 40, 23 can be done by 70.
        assert dict(outcomes["gate"]) == {
            0: "processed", 1: "overflow", 2: "overflow", 3: "overflow", 4: "processed", 5: "processed"
        }  # fmt: skip
        assert pipeline.ledger.unbalanced() == {}

    def test_who_waits_for_every_frame_is_held_up(self) -> None:
        _, _, outcomes = simulate({"gate": [float(at) for at in range(1, 31)]}, {1: 20}, terms=Terms())
        assert [outcome for _, outcome in outcomes["gate"]] == ["processed"] * 30

    @pytest.mark.parametrize("one_at_a_time", [False, True])
    def test_workers_that_take_turns_wait_for_theirs(self, one_at_a_time: bool) -> None:
        """Two workers, two frames at once, 20 ms each: side by side, or one after the other."""
        network = FakeDetector()
        network.exclusive = one_at_a_time  # type: ignore[attr-defined]
        sink, pipeline, _ = simulate({"gate": [1], "yard": [1]}, {1: 20}, workers=2, network=network)
        times = sorted((stage_times(one.trace)["queue"] // MS, stage_times(one.trace)["infer"]) for one in sink.results)
        assert times == [(0, 20 * MS), (20 if one_at_a_time else 0, 20 * MS)]
        assert not pipeline.ledger.unbalanced()

    def test_a_failing_batch_costs_its_frame_and_ends_nothing(self) -> None:
        """Not reached by any recording: the model of a replay may be another one."""
        clock = SimulatedClock(BEGAN_NS, 0)

        class Failing(FakeDetector):
            def submit(self, batch: Any) -> Any:
                raise InferenceError("no")

        detector = TimedDetector(Failing(), 1, clock, ServiceTimes({"1": {"samples_ns": [[MS, 0]]}}))
        pipeline = Pipeline(detector, [ListSink()], FlowOptions(batch_size=1, fixed_batch=False), clock=clock)
        virtual = Virtual(Nothing())
        ahead = ahead_of([1, 2], virtual)
        stream = Stream(ahead, [CopyStage()], StreamLedger("gate", clock=virtual), terms=Terms(policy="freshest"))
        drive(pipeline, stream, clock)
        detector.rest()
        assert stream.account.dropped == {"inference_error": 2}

    def test_a_network_that_was_given_up_before_it_was_warm_is_not_warmed(self) -> None:
        clock, network = SimulatedClock(BEGAN_NS, 0), FakeDetector()
        detector = TimedDetector(network, 1, clock, ServiceTimes({"1": {"samples_ns": [[MS, 0]]}}))
        detector.give_up()
        with pytest.raises(Closed):
            detector.warm([1])
        assert detector.rest()

    def test_a_model_that_hangs_ends_it(self) -> None:
        clock, hangs = SimulatedClock(BEGAN_NS, 0), threading.Event()
        services = ServiceTimes({"1": {"samples_ns": [[MS, 0]]}})
        detector = TimedDetector(FakeDetector(gate=hangs), 1, clock, services, limit_s=0.05)
        pipeline = Pipeline(detector, [ListSink()], FlowOptions(batch_size=1, fixed_batch=False), clock=clock)
        virtual = Virtual(Nothing())
        ahead = ahead_of([1, 2], virtual)
        stream = Stream(ahead, [CopyStage()], StreamLedger("gate", clock=virtual), terms=Terms(policy="freshest"))
        with pytest.raises(ModelHung):
            drive(pipeline, stream, clock)
        hangs.set()
        detector.rest()
        assert pipeline.ledger.unbalanced() == {}

    def test_who_gives_up_does_not_wait_for_the_network(self) -> None:
        clock, hangs, begun = SimulatedClock(BEGAN_NS, 0), threading.Event(), threading.Event()

        class Hanging(FakeDetector):
            def submit(self, batch: Any) -> Any:
                begun.set()
                hangs.wait(60)
                return super().submit(batch)

        detector = TimedDetector(Hanging(), 1, clock, ServiceTimes({"1": {"samples_ns": [[MS, 0]]}}))
        pipeline = Pipeline(detector, [ListSink()], FlowOptions(batch_size=1, fixed_batch=False), clock=clock)
        virtual = Virtual(Nothing())
        ahead = ahead_of([1, 2], virtual)
        stream = Stream(ahead, [CopyStage()], StreamLedger("gate", clock=virtual), terms=Terms(policy="freshest"))
        run = threading.Thread(target=drive, args=(pipeline, stream, clock))
        run.start()
        assert begun.wait(30)
        pipeline.abort()
        detector.give_up()
        run.join(30)
        assert not run.is_alive()
        hangs.set()
        assert detector.rest()
        assert stream.account.dropped == {"shutdown": stream.account.decoded}  # the other one may have come by then

    def test_a_frame_that_gives_way_is_not_prepared(self) -> None:
        """And those that are served are prepared once, by whoever serves them."""
        clock, virtual = SimulatedClock(BEGAN_NS, 0), Virtual(Nothing())
        later, stage = Later(), Foretold()
        services = ServiceTimes({"1": {"samples_ns": [[30 * MS, 0]]}})
        detector = TimedDetector(FakeDetector(), 1, clock, services, later=later)
        pipeline = Pipeline(detector, [sink := ListSink()], FlowOptions(batch_size=1, fixed_batch=False), clock=clock)
        ahead = ahead_of([float(at) for at in range(1, 31)], virtual)
        stages = [TimedStage(stage, ahead, clock, later)]
        stream = Stream(ahead, stages, StreamLedger("gate", clock=virtual), terms=Terms(policy="freshest"))
        drive(pipeline, stream, clock)
        assert detector.rest()
        assert stream.account.dropped == {"overflow": 28}
        assert [result.frame for result in sink.results] == [0, 29]
        assert stage.prepared == [0, 29]
        assert [float(result.detections.confidence[0]) for result in sink.results] == pytest.approx(
            [number / 255 for number in stage.prepared], abs=1e-6
        )


class Foretold(CopyStage):
    """A stage that can tell its geometry in advance; its pictures show their number. It fails for those of ``bad``."""

    def __init__(self, bad: frozenset[int] = frozenset()) -> None:
        self.prepared: list[int] = []
        self._bad = bad

    def geometry(self, picture: Picture, spec: InputSpec) -> Geometry:
        return super().prepare(picture, spec, np.empty(spec.shape, np.uint8))

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        number = int(picture.planes[0][0, 0])
        if number in self._bad:
            raise StageError("it cannot be prepared")
        self.prepared.append(number)
        return super().prepare(picture, spec, out)


class Allergic(FakeDetector):
    """Fails for a batch that holds one of these numbers; all others take a while, not all as long."""

    def __init__(self, to: frozenset[int]) -> None:
        super().__init__(find=self._look)
        self._to = to
        self._taken = 0

    def submit(self, batch: Batch) -> Any:
        self._taken += 1
        threading.Event().wait(0.0005 * (self._taken % 3))
        return super().submit(batch)

    def _look(self, value: int) -> Detections:
        if value in self._to:
            raise InferenceError("it will not look at that")
        return one_box(value)


class TestPublishingBehindDecisions:
    """What comes of waiting for each batch at once is the reference."""

    @settings(max_examples=25)
    @given(
        gaps_ms=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=25), min_size=1, max_size=3),
        service_ms=st.tuples(st.integers(1, 60), st.integers(1, 60)),
        workers=st.integers(1, 3),
        bad=st.frozensets(st.integers(0, 24), max_size=4),
        allergic_to=st.frozensets(st.integers(0, 24), max_size=4),
    )
    def test_changes_nothing(
        self,
        gaps_ms: list[list[int]],
        service_ms: tuple[int, int],
        workers: int,
        bad: frozenset[int],
        allergic_to: frozenset[int],
    ) -> None:
        def play(most: int) -> tuple[object, ...]:
            sink, pipeline, outcomes = simulate(
                {f"s{number}": list(accumulate(map(float, gaps))) for number, gaps in enumerate(gaps_ms)},
                {1: service_ms[0], 3: sum(service_ms)},
                batch=3,
                workers=workers,
                wait_ms=20,
                most=most,
                network=Allergic(allergic_to),
                stage=lambda name: Foretold(bad),
            )
            published = [
                (
                    result.stream,
                    result.frame,
                    result.dropped_before,
                    result.trace,
                    result.detections.confidence.tolist(),
                )
                for result in sink.results
            ]
            told = pipeline.ledger.as_dict()
            return published, outcomes, sink.events, {key: told[key] for key in told if key not in OF_THIS_MACHINE}

        at_once = play(0)
        assert play(MOST_FRAMES) == at_once
        assert play(1) == at_once

    def test_an_input_that_cannot_be_made_costs_its_frame_and_no_other(self) -> None:
        """While the first frame is served three come, and go in one batch."""
        times = {"a": [1.0, 10.0], "b": [10.0], "c": [10.0]}
        stages = {name: Foretold(frozenset({0}) if name == "b" else frozenset()) for name in times}
        network = FakeDetector()
        sink, pipeline, outcomes = simulate(
            times, {1: 20, 3: 30}, batch=3, network=network, stage=lambda name: stages[name]
        )
        assert network.sizes[:1] == [1], "that of the three never got there as a whole"
        assert outcomes == {
            "a": [(0, "processed"), (1, "processed")],
            "b": [(0, "stage_error")],
            "c": [(0, "processed")],
        }
        assert {result.stream: round(float(result.detections.confidence[0]) * 255) for result in sink.results} == {
            "a": 1, "c": 0
        }  # fmt: skip
        assert [stages[name].prepared for name in times] == [[0, 1], [], [0]], "once each"
        told = pipeline.ledger.as_dict()
        assert told["streams"]["b"]["frames"]["dropped_in"] == {"preprocess": {"stage_error": 1}}
        assert told["wall_s"] == pytest.approx(0.051), "what is left of a batch takes no time"

    def test_the_network_is_waited_for_by_nobody_until_enough_results_are_behind(self) -> None:
        """All frames but the last few are decided on before the first batch is done, where that is allowed."""
        gate, decided = threading.Event(), threading.Event()
        times = [float(at) for at in range(10, 10 + 10 * (MOST_FRAMES + 1), 10)]

        class Watched(Foretold):
            def geometry(self, picture: Picture, spec: InputSpec) -> Geometry:
                if int(picture.planes[0][0, 0]) == MOST_FRAMES:
                    decided.set()
                return super().geometry(picture, spec)

        found: list[ListSink] = []
        run = threading.Thread(
            target=lambda: found.append(
                simulate({"gate": times}, {1: 5}, network=FakeDetector(gate=gate), stage=lambda name: Watched())[0]
            )
        )
        run.start()
        assert decided.wait(30)
        gate.set()
        run.join(30)
        assert [result.frame for result in found[0].results] == list(range(MOST_FRAMES + 1))
