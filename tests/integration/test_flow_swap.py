# SPDX-License-Identifier: Apache-2.0
"""One model is swapped for another while frames are under way: none is lost, and each is served by the one it was
prepared for. Inline and threaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pipeline.errors import InferenceError
from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Capture, Detections, InputSpec
from pipeline.ledger import StreamLedger
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource
from tests.background import Background, until

LIVE = FlowOptions(batch_size=4, fixed_batch=False, workers=2, outlet_capacity=10_000)


def seconds(frames: int, fps: float = 25.0) -> list[float]:
    return [index / fps for index in range(frames)]


def stream(name: str, source: ScriptedSource, **options: Any) -> Stream:
    return Stream(source, [CopyStage()], StreamLedger(name), **options)


class Acting(ScriptedSource):
    """Does something before it delivers one of its frames."""

    def __init__(self, frames: int, at: int, act: Callable[[], object]) -> None:
        super().__init__(seconds(frames))
        self._frames, self._at, self._act = 0, at, act

    def read(self) -> Capture | None:
        """The next frame."""
        if self._frames == self._at:
            self._act()
        self._frames += 1
        return super().read()


def second(**options: Any) -> FakeDetector:
    """Another size, other classes, and it takes fewer pictures at a time."""
    options = {"spec": InputSpec(64, 96), "labels": {0: "other"}, "max_batch": 2} | options
    return FakeDetector(**options)


def swap(pipeline: Pipeline, detector: FakeDetector, **options: Any) -> None:
    settings = FlowOptions(batch_size=min(detector.max_batch, 4), fixed_batch=False, **options)
    model = pipeline.models.deploy(detector, settings)
    model.warm(in_turn=True)
    before = pipeline.switch(model)
    assert before is not None


def run_to_the_end(pipeline: Pipeline, streams: Sequence[Stream], inline: bool) -> None:
    if inline:
        pipeline.run_inline(streams)
        return
    pipeline.start()
    for one in streams:
        pipeline.add(one)
    pipeline.finish()
    assert pipeline.join(20), pipeline.alive()


@pytest.fixture(params=["inline", "threaded"])
def inline(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "inline")


def test_each_frame_is_served_by_the_model_that_was_in_use_when_it_was_prepared(inline: bool) -> None:
    first, other, sink = FakeDetector(), second(), ListSink()
    pipeline = Pipeline(first, [sink], LIVE)
    run_to_the_end(pipeline, [stream("a", Acting(40, 17, lambda: swap(pipeline, other)))], inline)
    labels = [result.labels[0] for result in sink.results]
    assert labels == ["thing"] * 17 + ["other"] * 23
    assert sink.frames("a") == list(range(40))
    assert (first.closed, other.closed) == (1, 0), "the first one is let go, the other one is its owner's"
    assert pipeline.detector is other
    assert max(other.sizes) <= 2
    boxes = {result.labels[0]: result.detections.xyxy[0].tolist() for result in sink.results}
    assert boxes["thing"] == [16.0, 12.0, 48.0, 36.0], "back from 32 x 32"
    assert boxes["other"] == pytest.approx([8 * 64 / 96, 8 * 48 / 64, 24 * 64 / 96, 24 * 48 / 64])
    assert pipeline.ledger.unbalanced() == {}
    assert pipeline.buffers.stats.in_use == 0


def test_the_same_size_and_other_weights(inline: bool) -> None:
    """Nothing but the model tells the two kinds of input apart."""
    empty = FakeDetector(find=lambda value: Detections.empty())
    sink = ListSink()
    pipeline = Pipeline(FakeDetector(), [sink], LIVE)
    run_to_the_end(pipeline, [stream("a", Acting(30, 10, lambda: swap(pipeline, empty)))], inline)
    assert [len(result.detections) for result in sink.results] == [1] * 10 + [0] * 20


def test_many_streams_lose_nothing_over_many_swaps() -> None:
    sink = ListSink()
    detectors = [second(labels={0: str(number)}) for number in range(20)]
    names = [f"s{number}" for number in range(6)]
    begun, ends = threading.active_count(), threading.Event()
    pipeline = Pipeline(FakeDetector(labels={0: "first"}), [sink], LIVE)

    def endless() -> Any:
        index = 0
        while not ends.wait(0.001):
            yield index / 25
            index += 1

    pipeline.start()
    for name in names:
        pipeline.add(stream(name, ScriptedSource(endless())))
    for number, detector in enumerate(detectors):
        swap(pipeline, detector, workers=1 + number % 3)
        label = str(number)
        until(lambda label=label: any(one.labels[0] == label for one in sink.results[-200:]), f"results of {label}")  # type: ignore[misc]
    ends.set()
    pipeline.finish()
    assert pipeline.join(20), pipeline.alive()
    for name in names:
        frames = sink.frames(name)
        assert frames == list(range(len(frames))), "no hole, and in order"
        labels = [result.labels[0] for result in sink.results if result.stream == name]
        assert labels == sorted(labels, key=lambda label: -1 if label == "first" else int(label)), "one after the other"
        assert pipeline.ledger.streams[name].dropped.total() == 0
    assert [detector.closed for detector in detectors] == [1] * 19 + [0]
    until(lambda: threading.active_count() <= begun, "all threads have gone")


def test_a_camera_that_stands_still_does_not_keep_the_old_model() -> None:
    first, sink, hold = FakeDetector(), ListSink(), threading.Event()
    pipeline = Pipeline(first, [sink], LIVE)
    pipeline.start()
    pipeline.add(stream("still", ScriptedSource([0.0, hold, 0.04])))
    until(lambda: sink.results)
    swap(pipeline, second())
    until(lambda: first.closed, "the first model's end")
    hold.set()
    pipeline.finish()
    assert pipeline.join(20), pipeline.alive()
    assert [result.labels[0] for result in sink.results] == ["thing", "other"]


def test_what_is_queued_with_the_old_model_is_served_by_it() -> None:
    """Its batch is held up; the new one is at work meanwhile, and order is kept."""
    gate = threading.Event()
    first, other, sink = FakeDetector(gate=gate), second(), ListSink()
    pipeline = Pipeline(first, [sink], LIVE)
    pipeline.start()
    more = threading.Event()
    pipeline.add(stream("a", ScriptedSource([*seconds(3), more, *seconds(2)])))
    until(lambda: pipeline.ledger.streams["a"].decoded == 3)
    swap(pipeline, other)
    more.set()
    until(lambda: sum(other.sizes) == 2, "the new model has seen its frames")
    assert not sink.results, "frames of the old one come first"
    assert not first.closed
    gate.set()
    pipeline.finish()
    assert pipeline.join(20), pipeline.alive()
    assert [result.labels[0] for result in sink.results] == ["thing"] * 3 + ["other"] * 2
    assert first.closed == 1


def test_a_reader_that_waits_for_space_is_moved_once_it_has_some() -> None:
    gate = threading.Event()
    first, sink = FakeDetector(gate=gate), ListSink()
    pipeline = Pipeline(first, [sink], FlowOptions(batch_size=1, fixed_batch=False, outlet_capacity=100))
    pipeline.start()
    pipeline.add(stream("a", ScriptedSource(seconds(20))))
    until(lambda: pipeline.waiting().get("a") == 2, "a full lane")
    swapping = Background(lambda: swap(pipeline, second()))
    gate.set()
    swapping.result()
    pipeline.finish()
    assert pipeline.join(20), pipeline.alive()
    assert sink.frames("a") == list(range(20))


def test_what_opens_meanwhile_and_later_goes_to_the_new_one() -> None:
    sink, opens = ListSink(), threading.Event()

    class Slow(ScriptedSource):
        def open(self, stop: Any) -> Any:
            opens.wait(20)
            return super().open(stop)

    pipeline = Pipeline(FakeDetector(), [sink], LIVE)
    pipeline.start()
    pipeline.add(stream("slow", Slow(seconds(3))))
    swap(pipeline, second())
    opens.set()
    pipeline.add(stream("late", ScriptedSource(seconds(3))))
    pipeline.finish()
    assert pipeline.join(20), pipeline.alive()
    assert {result.labels[0] for result in sink.results} == {"other"}
    assert len(sink.results) == 6


def test_after_the_end_nothing_is_changed() -> None:
    first, other = FakeDetector(), second()
    pipeline = Pipeline(first, [], LIVE)
    pipeline.start()
    pipeline.stop()
    assert pipeline.join(20), pipeline.alive()
    model = pipeline.models.deploy(other, LIVE)
    model.warm()
    assert pipeline.switch(model) is None
    assert pipeline.detector is first
    assert model.dismiss(20)
    assert (first.closed, other.closed) == (0, 1)


def test_a_stop_right_after_a_swap_ends_everything() -> None:
    sink = ListSink()
    pipeline = Pipeline(FakeDetector(), [sink], LIVE)
    pipeline.start()
    pipeline.add(stream("a", ScriptedSource([0.0] * 5000)))
    until(lambda: len(sink.results) > 5)
    swap(pipeline, second())
    pipeline.stop()
    assert pipeline.join(20), pipeline.alive()
    assert pipeline.ledger.unbalanced() == {}


def test_a_worker_of_the_new_model_that_dies_ends_everything() -> None:
    def dies(value: int) -> Detections:
        raise MemoryError("out of everything")

    pipeline = Pipeline(FakeDetector(), [ListSink()], LIVE)
    pipeline.start()
    pipeline.add(stream("a", ScriptedSource([0.0] * 5000)))
    swap(pipeline, second(find=dies))
    with pytest.raises(MemoryError):
        pipeline.join(20)
    assert not pipeline.alive()


def test_what_warming_raises_leaves_everything_as_it_was() -> None:
    class Cold(FakeDetector):
        def warm(self, sizes: Sequence[int]) -> None:
            raise InferenceError("no kernel")

    first, cold, sink = FakeDetector(), Cold(), ListSink()
    pipeline = Pipeline(first, [sink], LIVE)
    pipeline.start()
    model = pipeline.models.deploy(cold, LIVE)
    with pytest.raises(InferenceError, match="no kernel"):
        model.warm(in_turn=True)
    assert model.dismiss(20)
    pipeline.add(stream("a", ScriptedSource(seconds(5))))
    pipeline.finish()
    assert pipeline.join(20), pipeline.alive()
    assert len(sink.results) == 5
    assert (first.closed, cold.closed) == (0, 1)
