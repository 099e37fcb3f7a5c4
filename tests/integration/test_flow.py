# SPDX-License-Identifier: Apache-2.0
"""The route of a frame, with scripted sources and a list sink, inline and threaded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InferenceError, SinkError, SourceInvalid, StageError
from pipeline.flow import Pipeline
from pipeline.flow.lanes import Terms
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Capture, Detections, Frame, Geometry, InputSpec, Picture, Result, Uint8Array
from pipeline.ledger import StreamLedger
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource, one_box
from pipeline.timing import Mark, elapsed, part_times, stage_times
from tests.journeys import BY_ITS_READER


def stream(name: str, script: Sequence[Any] | ScriptedSource = (), **options: Any) -> Stream:
    source = script if isinstance(script, ScriptedSource) else ScriptedSource(script)
    return Stream(source, options.pop("stages", [CopyStage()]), StreamLedger(name), **options)


def seconds(frames: int, fps: float = 25.0) -> list[float]:
    return [index / fps for index in range(frames)]


def seen(result: Result) -> int:
    """The pixel value that the detector found, which is the frame index."""
    return round(float(result.detections.confidence[0]) * 255)


def assert_balanced(pipeline: Pipeline) -> None:
    assert pipeline.ledger.unbalanced() == {}
    assert pipeline.buffers.stats.in_use == 0


def test_every_frame_of_every_stream_arrives_in_order_with_its_own_result(run: Any) -> None:
    counts = {"a": 23, "b": 7, "c": 1, "d": 0, "e": 40}
    sink = ListSink()
    detector = FakeDetector()
    pipeline = run([stream(n, seconds(c)) for n, c in counts.items()], [sink], detector, batch_size=4, workers=2)
    for name, count in counts.items():
        assert sink.frames(name) == list(range(count))
        assert pipeline.ledger.streams[name].state == "finished"
    assert all(seen(result) == result.frame for result in sink.results)
    assert set(detector.sizes) == {4}  # one batch size from the first frame to the last, the tail padded
    assert_balanced(pipeline)


def test_boxes_come_back_in_source_pixels(run: Any) -> None:
    sink = ListSink()
    run([stream("a", ScriptedSource(seconds(2), size=(640, 320)))], [sink])
    np.testing.assert_allclose(sink.results[1].detections.xyxy, [[160, 80, 480, 240]])
    assert (sink.results[1].width, sink.results[1].height) == (640, 320)
    assert sink.results[1].labels == {0: "thing"}


def test_sinks_hear_of_each_stream_once_and_in_order(run: Any) -> None:
    sink = ListSink()
    run([stream("a", seconds(3)), stream("b", ())], [sink])
    assert sink.events[0] == "open"
    assert sink.events[-1] == "close"
    for name in ("a", "b"):
        assert sink.events.index(f"begin {name}") < sink.events.index(f"end {name}")
        assert sink.events.count(f"begin {name}") == sink.events.count(f"end {name}") == 1


def test_only_as_many_streams_as_asked_are_open_at_once(run: Any) -> None:
    opened, most = set(), 0

    class Counting(ScriptedSource):
        def open(self, stop: Any) -> Any:
            nonlocal most
            opened.add(self)
            most = max(most, len(opened))
            return super().open(stop)

        def close(self) -> None:
            opened.discard(self)
            super().close()

    sink = ListSink()
    pipeline = run([stream(f"s{n}", Counting(seconds(5))) for n in range(12)], [sink], parallel=3, batch_size=4)
    assert most <= 3
    assert len(sink.results) == 60
    assert_balanced(pipeline)


def test_thinned_frames_are_decimated_not_dropped(run: Any) -> None:
    def third(capture: Capture) -> bool:
        return capture.index % 3 == 0

    sink = ListSink()
    pipeline = run([stream("a", seconds(10), keep=third)], [sink])
    account = pipeline.ledger.streams["a"]
    assert sink.frames("a") == [0, 3, 6, 9]
    assert (account.decoded, account.processed, account.decimated, account.dropped.total()) == (10, 4, 6, 0)


def test_frames_that_became_too_old_while_they_waited_are_shed_and_counted(run: Any) -> None:
    sink = ListSink()
    hopeless = Terms(policy="freshest", staleness_ns=0)
    streams = [stream("a", seconds(9), terms=hopeless), stream("b", seconds(9))]
    pipeline = run(streams, [sink], fixed_batch=False, batch_size=2)
    account = pipeline.ledger.streams["a"]
    assert account.processed == 0
    assert account.dropped["stale"] + account.dropped["overflow"] == 9
    assert account.dropped["stale"] > 0
    assert sink.frames("b") == list(range(9))
    assert_balanced(pipeline)


def test_the_limit_counts_decoded_frames(run: Any) -> None:
    sink = ListSink()
    source = ScriptedSource(seconds(100), truncation="never seen")
    pipeline = run([stream("a", source, limit=7)], [sink])
    account = pipeline.ledger.streams["a"]
    assert sink.frames("a") == list(range(7))
    assert (account.decoded, account.state, account.error) == (7, "finished", None)
    assert source.closed


def test_a_truncated_recording_is_said_so(run: Any) -> None:
    pipeline = run([stream("a", ScriptedSource(seconds(3), truncation="3 of 9 frames"))], [ListSink()])
    assert pipeline.ledger.streams["a"].state == "truncated"
    assert pipeline.ledger.streams["a"].error == "3 of 9 frames"


@pytest.mark.parametrize("error", [SourceInvalid("no video"), RuntimeError("a fault of a plug-in")])
def test_one_bad_source_never_stops_the_others(run: Any, error: Exception) -> None:
    sink = ListSink()
    bad_open = ScriptedSource((), open_error=error)
    bad_read = ScriptedSource([0.0, 0.04, error, 0.08])
    pipeline = run([stream("x", bad_open), stream("y", bad_read), stream("good", seconds(20))], [sink], batch_size=4)
    assert sink.frames("good") == list(range(20))
    assert sink.frames("y") == [0, 1]  # what was decoded before the fault is kept
    assert "begin x" not in sink.events
    states = {name: account.state for name, account in pipeline.ledger.streams.items()}
    assert states == {"x": "failed", "y": "failed", "good": "finished"}
    assert bad_open.closed
    assert bad_read.closed
    assert_balanced(pipeline)


class Picky(CopyStage):
    """A stage that refuses some frames."""

    def __init__(self, refused: set[int], error: Exception) -> None:
        self.refused = refused
        self.error = error
        self.prepared = 0

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        if int(picture.planes[0][0, 0]) in self.refused:
            raise self.error
        self.prepared += 1
        return super().prepare(picture, spec, out)


@pytest.mark.parametrize("error", [StageError("too small"), ZeroDivisionError("a fault of a plug-in")])
def test_a_failing_stage_costs_its_frame_only(run: Any, error: Exception) -> None:
    sink = ListSink()
    pipeline = run([stream("a", seconds(9), stages=[Picky({2, 5, 8}, error)])], [sink])
    assert sink.frames("a") == [0, 1, 3, 4, 6, 7]
    assert [result.dropped_before for result in sink.results] == [0, 0, 1, 0, 1, 0]
    assert pipeline.ledger.streams["a"].dropped == {"stage_error": 3}
    assert_balanced(pipeline)


def test_a_stream_of_which_every_frame_fails_says_why(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, str]] = []
    failing = stream("a", seconds(4), stages=[Picky(set(range(4)), StageError("the region ends at (9, 9)"))])
    failing.account.life.fails = lambda detail, cause="stage": told.append((cause, detail))  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "pipeline"):
        pipeline = run([failing], [ListSink()])
    assert told == [("stage", "the region ends at (9, 9)")] * 4
    assert "a: frame 0 is dropped: the region ends at (9, 9)" in caplog.messages
    assert pipeline.ledger.streams["a"].dropped == {"stage_error": 4}


def test_a_failing_batch_is_split_until_the_bad_frame_is_alone(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    def find(value: int) -> Detections:
        if value in (3, 11):
            raise InferenceError("poison")
        return one_box(value)

    sink = ListSink()
    detector = FakeDetector(find=find)
    with caplog.at_level(logging.ERROR, "pipeline"):
        pipeline = run([stream("a", seconds(16))], [sink], detector, batch_size=8)
    assert sink.frames("a") == [n for n in range(16) if n not in (3, 11)]
    assert pipeline.ledger.streams["a"].dropped == {"inference_error": 2}
    assert "a: frame 3: poison" in caplog.text
    assert set(detector.sizes) == {8}  # also the halves are padded: the network sees one size
    assert_balanced(pipeline)


def test_a_stream_of_which_the_model_fails_on_every_frame_says_why(run: Any) -> None:
    def fail(value: int) -> Detections:
        raise InferenceError("poison")

    told: list[tuple[str, str]] = []
    failing = stream("a", seconds(4))
    failing.account.life.fails = lambda detail, cause="stage": told.append((cause, detail))  # type: ignore[method-assign]
    run([failing], [ListSink()], FakeDetector(find=fail), batch_size=2)
    assert told == [("inference", "poison")] * 4


def test_a_detector_with_the_wrong_number_of_results_is_caught(run: Any) -> None:
    class Short(FakeDetector):
        def submit(self, batch: Any) -> Any:
            done = super().submit(batch)
            done.found = done.found[:-1] if len(done.found) > 1 else done.found
            return done

    sink = ListSink()
    pipeline = run([stream("a", seconds(4))], [sink], Short(), batch_size=2)
    assert sink.frames("a") == [0, 1, 2, 3]  # alone, each frame is right
    assert_balanced(pipeline)


def test_corrupt_frames_are_counted_and_dropped_where_asked(run: Any) -> None:
    sink = ListSink()
    pipeline = run(
        [
            stream("kept", ScriptedSource(seconds(4), corrupt=[1])),
            stream("dropped", ScriptedSource(seconds(4), corrupt=[1]), drop_corrupt=True),
        ],
        [sink],
    )
    assert sink.frames("kept") == [0, 1, 2, 3]
    assert sink.frames("dropped") == [0, 2, 3]
    assert [pipeline.ledger.streams[name].corrupt for name in ("kept", "dropped")] == [1, 1]
    assert pipeline.ledger.streams["dropped"].dropped == {"corrupt": 1}


def test_a_gated_frame_skips_the_detector_but_keeps_its_place(run: Any) -> None:
    class FillIn:
        """A follower that repeats the last detections where nobody looked."""

        def __init__(self) -> None:
            self.last = Detections.empty()

        def follow(self, frame: Frame, detections: Detections | None) -> Detections:
            self.last = self.last if detections is None else detections
            return self.last

    sink = ListSink()
    gated = stream("a", seconds(9), gate=lambda capture: capture.index % 4 == 0, follower=FillIn())
    pipeline = run([gated], [sink], batch_size=2)
    assert [seen(result) for result in sink.results] == [0, 0, 0, 0, 4, 4, 4, 4, 8]
    assert sink.frames("a") == list(range(9))
    assert pipeline.ledger.batch_sizes.total() == 2
    assert_balanced(pipeline)


def test_a_failing_follower_costs_its_frame_only(run: Any) -> None:
    class Fails:
        def follow(self, frame: Frame, detections: Detections | None) -> Detections:
            if frame.index == 2:
                raise KeyError("a fault of a plug-in")
            return detections or Detections.empty()

    sink = ListSink()
    pipeline = run([stream("a", seconds(4), follower=Fails())], [sink])
    assert sink.frames("a") == [0, 1, 3]
    assert pipeline.ledger.streams["a"].dropped == {"stage_error": 1}
    assert_balanced(pipeline)


def test_the_parts_of_a_frame_are_joined(run: Any) -> None:
    class Shifted(CopyStage):
        def __init__(self, left: float) -> None:
            self.left = left

        def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
            super().prepare(picture, spec, out)
            return Geometry(64, 48, 1.0, 1.0, offset_x=self.left)

    sink = ListSink()
    tiles = [Shifted(0.0), Shifted(10.0), Shifted(20.0)]
    pipeline = run([stream("a", seconds(5), stages=tiles), stream("b", seconds(4))], [sink], batch_size=4, workers=2)
    assert sink.frames("a") == [0, 1, 2, 3, 4]
    for result in (r for r in sink.results if r.stream == "a"):
        np.testing.assert_allclose(result.detections.xyxy[:, 0], [8, 18, 28])
    assert_balanced(pipeline)


class TestSinks:
    def test_a_sink_that_cannot_keep_some_results_is_degraded_and_recovers(self, run: Any) -> None:
        def full(result: Result) -> None:
            if result.frame in (2, 3):
                raise SinkError("no space left")

        bad, good = ListSink("bad", fail=full), ListSink("good")
        pipeline = run([stream("a", seconds(6))], [bad, good])
        assert bad.frames("a") == [0, 1, 4, 5]
        assert good.frames("a") == [0, 1, 2, 3, 4, 5]
        account = pipeline.ledger.sinks["bad"]
        assert (account.received, account.written, account.lost, account.state) == (6, 4, {"write_error": 2}, "ok")

    def test_a_sink_that_breaks_is_detached_and_the_rest_goes_on(self, run: Any) -> None:
        def broken(result: Result) -> None:
            if result.frame == 1:
                raise TypeError("a fault of a plug-in")

        bad, good = ListSink("bad", fail=broken), ListSink("good")
        pipeline = run([stream("a", seconds(5))], [bad, good])
        assert bad.frames("a") == [0]
        assert bad.events[-1] == "close"
        assert good.frames("a") == [0, 1, 2, 3, 4]
        account = pipeline.ledger.sinks["bad"]
        assert (account.received, account.written, account.lost) == (5, 1, {"failed": 4})
        assert (account.state, account.error) == ("failed", "a fault of a plug-in")

    def test_pictures_travel_only_when_a_sink_wants_them(self, run: Any) -> None:
        plain, wants = ListSink(), ListSink(wants_pictures=True)
        run([stream("a", seconds(2))], [plain])
        run([stream("a", seconds(2))], [wants])
        assert [result.picture for result in plain.results] == [None, None]
        assert [int(result.picture.planes[0][0, 0]) for result in wants.results if result.picture] == [0, 1]

    def test_a_sink_that_cannot_open_refuses_the_start(self, run: Any) -> None:
        class Unwritable(ListSink):
            def open(self) -> None:
                raise SinkError("folder is read-only")

        first = ListSink("first")
        with pytest.raises(SinkError, match="read-only"):
            run([stream("a", seconds(2))], [first, Unwritable("second")])
        assert first.events == ["open", "close"]


class TestTime:
    def test_the_stages_of_every_frame_sum_to_its_end_to_end_time(self, run: Any) -> None:
        sinks = [ListSink("one"), ListSink("two")]
        pipeline = run([stream("a", seconds(30)), stream("b", seconds(5))], sinks, batch_size=4, workers=2)
        for result in sinks[0].results:
            marks = [result.trace[mark] for mark in BY_ITS_READER]
            assert all(marks), "every mark was passed"
            assert marks == sorted(marks)
            whole = result.trace
            assert sum(stage_times(whole).values()) == elapsed(whole) == whole[Mark.DONE] - whole[Mark.READ]
        report = pipeline.ledger.as_dict()["streams"]["a"]
        assert report["end_to_end"]["count"] == 30
        mean = sum(stats["mean_ms"] for stats in report["stages"].values())
        assert mean == pytest.approx(report["end_to_end"]["mean_ms"], abs=1e-6)

    def test_the_total_counts_every_stream(self, run: Any) -> None:
        pipeline = run([stream("a", seconds(3)), stream("b", seconds(4))], [ListSink()])
        report = pipeline.ledger.as_dict()
        assert report["frames"] == 7
        assert report["total"]["end_to_end"]["count"] == 7
        assert report["first_result_ms"] > 0

    def test_a_frame_without_sinks_ends_when_it_is_published(self, run: Any) -> None:
        pipeline = run([stream("a", seconds(3))], [])
        report = pipeline.ledger.as_dict()["streams"]["a"]
        assert report["end_to_end"]["count"] == 3
        assert "sink" not in report["stages"]


class TestThreaded:
    """What only exists with threads: stopping, aborting, dropping, live changes."""

    def pipeline(self, sinks: list[ListSink], detector: FakeDetector | None = None, **options: Any) -> Pipeline:
        pipeline = Pipeline(detector or FakeDetector(), sinks, FlowOptions(**options))
        pipeline.start()
        return pipeline

    def test_stop_serves_what_is_queued_and_ends(self) -> None:
        hold = threading.Event()
        sink = ListSink()
        pipeline = self.pipeline([sink], batch_size=4, parallel=1)
        pipeline.add(stream("a", [*seconds(6), hold, *seconds(6)]))
        pipeline.add(stream("b", seconds(5)))  # waits for its turn and never gets it
        while pipeline.ledger.streams["a"].decoded < 6:
            hold.wait(0.001)
        pipeline.stop()
        assert pipeline.join(10)
        assert sink.frames("a") == list(range(6))
        states = {name: account.state for name, account in pipeline.ledger.streams.items()}
        assert states == {"a": "stopped", "b": "stopped"}
        assert pipeline.alive() == []
        assert_balanced(pipeline)

    def test_abort_ends_at_once_and_counts_what_was_under_way(self) -> None:
        gate = threading.Event()
        sink = ListSink()
        pipeline = self.pipeline([sink], FakeDetector(gate=gate), batch_size=2)
        pipeline.add(stream("a", seconds(1000)))
        while pipeline.ledger.streams["a"].decoded < 4:
            gate.wait(0.001)
        pipeline.abort()
        gate.set()
        assert pipeline.join(10)
        account = pipeline.ledger.streams["a"]
        assert account.dropped["shutdown"] > 0
        assert account.decoded == account.processed + account.dropped.total()
        assert account.state == "stopped"
        assert sink.events[-1] == "close"

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_worker_that_dies_hangs_nobody(self) -> None:
        class Dies(FakeDetector):
            def submit(self, batch: Any) -> Any:
                raise MemoryError("out of everything")

        pipeline = self.pipeline([ListSink()], Dies(), batch_size=2, workers=2)
        for name in "abcd":
            pipeline.add(stream(name, seconds(50)))
        pipeline.finish()
        with pytest.raises(MemoryError):
            pipeline.join(10)
        assert pipeline.alive() == []

    def test_a_detector_that_cannot_warm_refuses_the_start(self) -> None:
        class Cold(FakeDetector):
            def warm(self, sizes: Sequence[int]) -> None:
                raise InferenceError("wrong input size")

        sink = ListSink()
        pipeline = Pipeline(Cold(), [sink], FlowOptions(workers=3))
        with pytest.raises(InferenceError, match="wrong input size"):
            pipeline.start()
        assert sink.events == ["open", "close"]
        pipeline.failure = None
        assert pipeline.join(10)

    def test_freshest_drops_the_oldest_and_accounts_for_it(self) -> None:
        gate = threading.Event()
        sink = ListSink()
        pipeline = self.pipeline([sink], FakeDetector(gate=gate), batch_size=1, fixed_batch=False)
        stage = Picky(set(), ValueError())
        pipeline.add(stream("a", seconds(200), stages=[stage], terms=Terms(policy="freshest")))
        pipeline.finish()
        while pipeline.ledger.streams["a"].decoded < 200:
            gate.wait(0.001)
        gate.set()
        assert pipeline.join(10)
        account = pipeline.ledger.streams["a"]
        # Those that the reader prepared before it lost one; then the worker, the one that it took.
        assert stage.prepared <= account.processed + 3
        by_worker = [result for result in sink.results if result.trace[Mark.MADE]]
        assert by_worker[-1] is sink.results[-1]
        for result in by_worker:
            assert sum(stage_times(result.trace).values()) == elapsed(result.trace)
            assert [part_times(result.trace)[part] >= 0 for part in ("preprocess", "scheduler", "batch")] == [True] * 3
        assert account.dropped["overflow"] == 200 - account.processed
        assert sink.frames("a")[-1] == 199  # the newest survives
        assert sum(result.dropped_before for result in sink.results) == account.dropped["overflow"]
        assert_balanced(pipeline)

    def test_a_slow_sink_loses_only_its_own_results(self) -> None:
        gate = threading.Event()
        slow, quick = ListSink("slow", gate=gate), ListSink("quick")
        pipeline = self.pipeline(
            [slow, quick], batch_size=1, fixed_batch=False, outlet_policy="freshest", outlet_capacity=4
        )
        pipeline.add(stream("a", seconds(60)))
        pipeline.finish()
        while pipeline.ledger.streams["a"].processed < 60 or quick.frames("a")[-1:] != [59]:
            gate.wait(0.001)  # the flow and the other sink reach the end while this one writes its first result
        gate.set()
        assert pipeline.join(10)
        account = pipeline.ledger.sinks["slow"]
        assert account.lost["overflow"] == 60 - len(slow.results) >= 55
        assert slow.frames("a")[-3:] == [57, 58, 59]  # the end marker takes the fourth place
        assert slow.events[-2:] == ["end a", "close"]  # markers are never pushed out
        assert pipeline.ledger.as_dict()["streams"]["a"]["end_to_end"]["count"] == 60

    def test_streams_come_and_go_while_others_run(self) -> None:
        hold = threading.Event()
        sink = ListSink()
        pipeline = self.pipeline([sink], fixed_batch=False, batch_size=4)
        pipeline.add(stream("steady", [*seconds(10), hold, *seconds(10)]))
        pipeline.add(stream("brief", [*seconds(3), threading.Event(), 9.0]))
        while pipeline.ledger.streams["brief"].decoded < 3 or pipeline.ledger.streams["steady"].decoded < 10:
            hold.wait(0.001)
        pipeline.remove("brief")
        while "end brief" not in sink.events:
            hold.wait(0.001)
        pipeline.add(stream("brief", seconds(2)))  # the same name is a new life
        hold.set()
        pipeline.finish()
        assert pipeline.join(10)
        assert sink.frames("steady") == list(range(20))
        assert sink.frames("brief") == [0, 1, 2, 3, 4]  # its numbers go on
        assert_balanced(pipeline)

    def test_a_hundred_streams(self) -> None:
        sink = ListSink()
        pipeline = self.pipeline([sink], batch_size=8, workers=2)
        for number in range(100):
            pipeline.add(stream(f"s{number}", seconds(20)))
        pipeline.finish()
        assert pipeline.join(30)
        assert all(sink.frames(f"s{number}") == list(range(20)) for number in range(100))
        assert pipeline.buffers.stats.allocated <= 100 * 3 + 3 * 8
        assert_balanced(pipeline)
