# SPDX-License-Identifier: Apache-2.0
"""Another model is put in while streams run, or the one in use stays and it is said why."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import build
from pipeline.config import Config, parse_config
from pipeline.daemon import attempt as attempts
from pipeline.daemon import comparing
from pipeline.daemon.attempt import InUse
from pipeline.daemon.model import Loaded, Wanted
from pipeline.daemon.swap import MOST_LEFT_BEHIND, Swapper
from pipeline.errors import InferenceError, ModelLoadError
from pipeline.flow import Pipeline
from pipeline.flow import lineup as lineups
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Batch, Detections, Geometry, InputSpec, Picture, Uint8Array
from pipeline.ledger import StreamLedger
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource, one_box
from tests.background import until


@dataclass
class Made(FakeDetector):
    """With the attributes that a comparison looks at."""

    nonfinite_frames: int = 0
    limits: Any = None
    looked: list[str] = field(default_factory=list)

    def submit(self, batch: Batch) -> Any:
        """Note which thread looks."""
        self.looked.append(threading.current_thread().name)
        return super().submit(batch)


def config(model: str, rest: str = "") -> Config:
    text = f"model: {{path: '{model}'}}\n{rest}streams: [{{name: a, source: 'pattern:'}}]\n"
    if model.startswith("{"):
        text = f"model: {model}\n{rest}streams: [{{name: a, source: 'pattern:'}}]\n"
    return parse_config(text.encode()).config


class Bench:
    """A pipeline with endless streams, whose models are made by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads = threading.active_count()
        self.sink = ListSink()
        self.models: dict[str, Callable[[], FakeDetector]] = {}
        self.ends = threading.Event()
        self.first = Made(labels={0: "first"})
        self.pipeline = Pipeline(
            self.first, [self.sink], FlowOptions(batch_size=4, fixed_batch=False, workers=2, outlet_capacity=100_000)
        )
        self.now_ns = 0
        monkeypatch.setattr(attempts, "load", self.load)
        in_use = InUse(Wanted.of(config("first.pt")), {"sha256": "0" * 64, "path": "first.pt"})
        self.swapper = Swapper(self.pipeline, in_use, lambda timeout_s: 300.0, lambda: self.now_ns)
        self.pipeline.start()

    def load(self, wanted: Wanted) -> Loaded:
        name = Path(wanted.model.path).name
        if name not in self.models:
            raise ModelLoadError(f"{name}: no such model file")
        detector: Any = self.models[name]()
        size = min(8, detector.max_batch)
        return Loaded(
            detector, FlowOptions(batch_size=size, fixed_batch=False, workers=2), {"sha256": name, "path": name}
        )

    def stream(self, name: str, stages: Sequence[Any] | None = None) -> None:
        def endless() -> Iterator[float]:
            index = 0
            while not self.ends.wait(0.002):
                yield index / 25
                index += 1

        self.pipeline.add(Stream(ScriptedSource(endless()), stages or [CopyStage()], StreamLedger(name)))

    def want(self, model: str, rest: str = "", *, asked: bool = False) -> None:
        self.swapper.want(config(model, rest), asked=asked)
        self.swapper.look()

    def settled(self) -> dict[str, Any]:
        """The latest attempt, once it has ended."""

        def over() -> bool:
            self.swapper.look()
            return self.swapper._attempt is None

        until(over, "the end of the attempt")
        told: dict[str, Any] = self.swapper.facts()["swaps"][-1]
        return told

    def serves(self, label: str) -> None:
        """Results of the model with this label keep coming."""
        seen = len(self.sink.results)
        until(lambda: len(self.sink.results) > seen + 20, "more results")
        assert self.sink.results[-1].labels[0] == label

    def end(self) -> None:
        self.ends.set()
        self.swapper.stop()
        self.pipeline.finish()
        assert self.pipeline.join(20), self.pipeline.alive()
        assert not self.swapper.hangs(20)
        assert self.pipeline.ledger.unbalanced() == {}
        for name, account in self.pipeline.ledger.streams.items():
            frames = self.sink.frames(name)
            assert frames == list(range(len(frames))), "no hole, and in order"
            assert account.dropped.total() == 0
        assert self.pipeline.buffers.stats.in_use == 0
        until(lambda: threading.active_count() <= self.threads, "all threads have gone")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Bench]:
    caplog.set_level(logging.INFO)
    one = Bench(monkeypatch)
    yield one
    if not one.ends.is_set():
        one.end()


def test_the_course_of_a_swap(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.stream("a")
    bench.stream("b")
    bench.serves("first")
    other = Made(labels={0: "first", 1: "more"}, spec=InputSpec(64, 64), max_batch=3, find=one_box)
    bench.models["other.pt"] = lambda: other
    bench.want("other.pt")
    told = bench.settled()
    assert (told["state"], told["reason"], told["to"].split("/")[-1]) == ("done", None, "other.pt")
    assert told["compared"]["frames"] == 32
    assert told["compared"]["streams"] == 2
    assert told["compared"]["detections"] == {"before": 32, "after": 32}
    bench.serves("first")
    assert bench.sink.results[-1].labels[1] == "more"
    assert bench.pipeline.detector is other
    assert bench.first.closed == 1
    assert (bench.swapper.in_use.facts["path"], bench.swapper.succeeded) == ("other.pt", True)
    assert sorted(other.warmed) == [[1], [1, 2, 3], [1, 2, 3]], "in each worker, and where it was compared"
    assert max(other.sizes) <= 3
    assert {name for name in other.looked if name.startswith("swap")} == {"swap:1"}
    said = [text for text in caplog.messages if text.startswith("model swap 1: ")]
    assert len(said) == 5
    assert said[0].endswith("first.pt")
    assert "compared on 32 live frames of 2 streams" in said[1]
    assert "finds hardly any of what first.pt finds" in said[2], "which is for somebody to know, and no refusal"
    assert said[3].endswith("other.pt is in use from here on")
    assert said[4].endswith("has served what was queued for it and is let go")


def test_agreement_is_by_class_name_and_in_source_pixels(bench: Bench) -> None:
    """The second model has another size and numbers its classes otherwise, and finds the same."""

    def same(value: int) -> Detections:
        box = np.array([[16.0, 16.0, 48.0, 48.0]], np.float32)
        return Detections(box, np.array([value / 255], np.float32), np.array([7]))

    bench.stream("a")
    bench.models["same.pt"] = lambda: Made(spec=InputSpec(64, 64), labels={7: "first", 0: "x"}, find=same)
    bench.want("same.pt")
    assert bench.settled()["compared"]["agreement"] == 1.0


def test_a_model_that_finds_something_else_is_put_in_all_the_same(bench: Bench) -> None:
    bench.stream("a")
    bench.models["blind.pt"] = lambda: Made(labels={0: "blind"}, find=lambda value: Detections.empty())
    bench.want("blind.pt")
    told = bench.settled()
    assert (told["state"], told["compared"]["agreement"]) == ("done", 0.0)
    bench.serves("blind")


def test_unless_the_configuration_asks_for_agreement(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.stream("a")
    blind = Made(find=lambda value: Detections.empty())
    bench.models["blind.pt"] = lambda: blind
    bench.want("{path: blind.pt, swap: {min_agreement: 0.5}}")
    told = bench.settled()
    assert (told["state"], told["reason"]) == ("refused", "it agrees to 0.00; model.swap.min_agreement is 0.5")
    assert not bench.swapper.succeeded
    assert blind.closed == 1
    bench.serves("first")
    assert any("refused" in text and "first.pt stays in use" in text for text in caplog.messages)


def raises(value: int) -> Detections:
    raise InferenceError("size mismatch")


def nan(value: int) -> Detections:
    return Detections(np.array([[8, 8, np.nan, 24]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Made(find=raises), "it fails on a live frame (a, frame "),
        (lambda: Made(find=nan), "it returns NaN or infinite values for a live frame (a, frame "),
    ],
    ids=["raises", "not a number"],
)
def test_what_fails_on_live_frames_is_refused(bench: Bench, make: Callable[[], FakeDetector], reason: str) -> None:
    bench.stream("a")
    made: list[FakeDetector] = []

    def load() -> FakeDetector:
        made.append(make())
        return made[-1]

    bench.models["bad.pt"] = load
    bench.want("bad.pt")
    assert bench.settled()["reason"].startswith(reason)
    bench.serves("first")
    assert (made[0].closed, bench.swapper.succeeded) == (1, False)
    assert bench.first.closed == 0


def test_values_that_the_engine_removed_count_as_well(bench: Bench) -> None:
    bench.stream("a")
    removes = Made()
    removes.find = lambda value: setattr(removes, "nonfinite_frames", 1) or Detections.empty()  # type: ignore[func-returns-value]
    bench.models["bad.pt"] = lambda: removes
    bench.want("bad.pt")
    assert "NaN or infinite" in bench.settled()["reason"]


def test_frames_that_no_input_can_be_made_of(bench: Bench) -> None:
    class Small(CopyStage):
        def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
            if spec.height > 32:
                raise ValueError("too large for this stage")
            return super().prepare(picture, spec, out)

    bench.stream("a", [Small()])
    bench.models["large.pt"] = lambda: Made(spec=InputSpec(64, 64))
    bench.want("large.pt")
    assert "no input can be made for it of a live frame: too large" in bench.settled()["reason"]
    bench.serves("first")


def test_frames_of_several_parts(bench: Bench) -> None:
    bench.stream("a", [CopyStage(), CopyStage()])
    bench.models["other.pt"] = lambda: Made(spec=InputSpec(64, 64), labels={0: "other"})
    bench.want("other.pt")
    assert bench.settled()["compared"]["detections"] == {"before": 64, "after": 64}
    bench.serves("other")


def test_what_cannot_be_loaded_leaves_everything_as_it_is(bench: Bench) -> None:
    bench.stream("a")
    bench.want("gone.pt")
    assert bench.settled()["reason"] == "gone.pt: no such model file"
    assert not bench.swapper.succeeded
    bench.serves("first")
    bench.want("gone.pt")
    assert len(bench.swapper.facts()["swaps"]) == 1, "nothing about it is new"
    bench.want("gone.pt", asked=True)
    bench.settled()
    assert len(bench.swapper.facts()["swaps"]) == 2, "somebody asked"
    bench.want("first.pt")
    assert bench.swapper.succeeded, "the file says what runs"


def test_what_is_raised_while_warming(bench: Bench) -> None:
    class Cold(Made):
        def warm(self, sizes: Sequence[int]) -> None:
            raise RuntimeError("no kernel")

    bench.stream("a")
    cold = Cold()
    bench.models["cold.pt"] = lambda: cold
    bench.want("cold.pt")
    assert bench.settled()["reason"] == "RuntimeError: no kernel"
    assert cold.closed == 1
    bench.serves("first")


def test_without_a_live_frame(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "LONGEST_NS", 0)
    bench.models["other.pt"] = lambda: Made(labels={0: "other"})
    bench.want("other.pt")
    told = bench.settled()
    assert (told["state"], told["compared"]["frames"], told["compared"]["ms_per_frame"]) == ("done", 0, None)
    bench.want("{path: first.pt, swap: {min_agreement: 0.1}}")
    bench.models["first.pt"] = Made
    assert bench.settled()["state"] == "refused"
    bench.stream("a")
    bench.serves("other")


def test_comparing_can_be_left_out(bench: Bench) -> None:
    bench.models["other.pt"] = lambda: Made(labels={0: "other"})
    bench.want("{path: other.pt, swap: {frames: 0}}")
    told = bench.settled()
    assert (told["state"], told["compared"]) == ("done", None)


@pytest.mark.parametrize("where", ["load", "warm", "submit"])
def test_a_model_that_hangs_is_left_behind(bench: Bench, where: str, caplog: pytest.LogCaptureFixture) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        assert goes_on.wait(30)

    class Hanging(Made):
        def warm(self, sizes: Sequence[int]) -> None:
            if where == "warm":
                hang()

        def submit(self, batch: Batch) -> Any:
            hang()
            return super().submit(batch)

    made = Hanging()

    def load() -> FakeDetector:
        if where == "load":
            hang()
        return made

    bench.stream("a")
    bench.models["hangs.pt"] = load
    bench.want("{path: hangs.pt, timeout_s: 5}")
    until(hangs.is_set)
    bench.swapper.look()
    assert bench.swapper.facts()["swaps"][-1]["state"] in ("loading", "warming", "comparing")
    bench.serves("first")
    bench.now_ns += (6 if where == "submit" else 301) * 10**9
    told = bench.settled()
    limit = 5 if where == "submit" else 300
    assert told["state"] == "refused"
    assert f"it has not come back for {limit} s while " in told["reason"]
    assert bench.swapper.left_behind == 1
    assert bench.swapper.hangs(0.0), "its process must be ended by force"
    bench.serves("first")
    bench.models["other.pt"] = lambda: Made(labels={0: "other"})
    bench.want("other.pt")
    assert bench.settled()["state"] == "done", "another one can be put in"
    goes_on.set()
    until(lambda: made.closed, "what came back after all is let go")
    bench.serves("other")
    bench.swapper.hung = 0


def test_when_too_many_hang_no_more_are_loaded(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.swapper.hung = MOST_LEFT_BEHIND
    bench.models["other.pt"] = Made
    bench.want("other.pt")
    assert bench.swapper.facts()["swaps"] == []
    assert not bench.swapper.succeeded
    assert any("only a new process helps" in text for text in caplog.messages)
    bench.swapper.hung = 0


class Held:
    """A model whose loading waits to be let go on."""

    def __init__(self, label: str) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.detector = Made(labels={0: label})

    def __call__(self) -> FakeDetector:
        self.begun.set()
        assert self.go.wait(30)
        return self.detector


def test_a_model_that_does_not_come_to_its_end_is_not_waited_for_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stage that hangs holds its stream between two frames: that one keeps the old model, the others go on."""
    hangs, goes_on = threading.Event(), threading.Event()

    class Hangs(CopyStage):
        def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
            if not goes_on.is_set():
                hangs.set()
                assert goes_on.wait(60)
            return super().prepare(picture, spec, out)

    monkeypatch.setattr(lineups, "MOVES_S", 0.2)
    bench.swapper.in_use = InUse(Wanted.of(config("{path: first.pt, timeout_s: 1}")), bench.swapper.in_use.facts)
    bench.stream("a")
    bench.stream("held", [Hangs()])
    assert hangs.wait(60)
    bench.models["other.pt"] = lambda: Made(labels={0: "other"})
    bench.want("{path: other.pt, swap: {frames: 0}}")
    told = bench.settled()
    assert (told["state"], told["drained"]) == ("done", False)
    assert "model swap 1: first.pt is still at work after 1 s (queued there: held 0)" in caplog.text
    assert bench.swapper.left_behind == 1
    assert not bench.swapper.hangs(0.0), "the flow waits for it, as it does for the one in use"
    bench.serves("other")
    goes_on.set()
    until(lambda: len(bench.sink.frames("held")) > 20, "the stream that was held goes on with what it had")
    assert {result.labels[0] for result in bench.sink.results if result.stream == "held"} == {"first"}
    bench.models["third.pt"] = lambda: Made(labels={0: "third"})
    bench.want("{path: third.pt, swap: {frames: 0}}")
    assert bench.settled()["drained"], "the next swap takes it along"
    until(lambda: bench.swapper.left_behind == 0, "the first model is let go")
    until(lambda: {one.labels[0] for one in bench.sink.results[-10:]} == {"third"}, "both have the new model")


def test_a_later_change_takes_the_place_of_one_under_way(bench: Bench) -> None:
    one = Held("one")
    bench.stream("a")
    bench.models |= {"one.pt": one, "two.pt": lambda: Made(labels={0: "two"})}
    bench.want("one.pt")
    until(one.begun.is_set)
    bench.want("one.pt", asked=True)
    bench.want("two.pt")
    one.go.set()
    until(lambda: bench.swapper.look() or len(bench.swapper.facts()["swaps"]) == 2)
    assert bench.settled()["state"] == "done"
    assert [told["state"] for told in bench.swapper.facts()["swaps"]] == ["superseded", "done"]
    assert one.detector.closed == 1
    bench.serves("two")


def test_back_to_the_one_in_use_while_another_is_loaded(bench: Bench) -> None:
    one = Held("one")
    bench.stream("a")
    bench.models["one.pt"] = one
    bench.want("one.pt")
    until(one.begun.is_set)
    bench.want("first.pt")
    one.go.set()
    assert bench.settled()["state"] == "superseded"
    assert bench.swapper.succeeded
    bench.serves("first")


def test_back_to_the_one_before_while_another_takes_over(bench: Bench) -> None:
    bench.stream("a")
    bench.models |= {"one.pt": lambda: Made(labels={0: "one"}), "first.pt": lambda: Made(labels={0: "first"})}
    bench.want("one.pt")
    attempt = bench.swapper._attempt
    assert attempt is not None
    until(lambda: attempt.state == "done", "the other one is in use, and nobody has looked yet")
    bench.swapper.want(config("first.pt"), asked=False)
    until(lambda: bench.swapper.look() or len(bench.swapper.facts()["swaps"]) == 2, "the next attempt")
    assert bench.settled()["state"] == "done"
    bench.serves("first")


def test_a_stop_while_a_model_is_loaded(bench: Bench) -> None:
    one = Held("one")
    bench.stream("a")
    bench.models["one.pt"] = one
    bench.want("one.pt")
    until(one.begun.is_set)
    bench.swapper.stop()
    assert bench.swapper.hangs(0.0), "it is in native code"
    one.go.set()
    bench.end()
    assert bench.settled()["state"] == "stopped"
    assert one.detector.closed == 1


def test_only_limits_differ(bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    bench.want("{path: first.pt, confidence: 0.7, classes: [first]}")
    assert bench.swapper.facts()["swaps"] == []
    assert bench.first.limits == build.limits(
        config("{path: first.pt, confidence: 0.7, classes: [0]}").model, {0: "first"}
    )
    assert "model: from here on classes first, confidence 0.7" in caplog.messages
    bench.want("{path: first.pt, confidence: 0.7, classes: [frist]}")
    assert not bench.swapper.succeeded
    assert any("first" in text and "it goes on as it was" in text for text in caplog.messages)
    bench.want("{path: first.pt, confidence: 0.7, classes: [first]}")
    assert bench.swapper.succeeded
    assert bench.first.limits.confidence == 0.7


def test_how_long_a_batch_may_take_is_taken_over_at_once(bench: Bench) -> None:
    bench.want("{path: first.pt, timeout_s: 7, swap: {frames: 3}}")
    assert bench.swapper.facts()["swaps"] == []
    assert bench.swapper.timeout_s == 7


def test_other_batches_are_a_swap_as_well(bench: Bench) -> None:
    bench.stream("a")
    bench.models["first.pt"] = lambda: Made(labels={0: "again"})
    bench.want("first.pt", "batch: {max_size: 2}\n")
    assert bench.settled()["state"] == "done"
    bench.serves("again")


def test_a_file_with_a_new_content_is_taken_up_when_it_is_asked_for(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"one")
    bench.stream("a")
    bench.models["model.pt"] = lambda: Made(labels={0: "model"})
    bench.want(str(path))
    bench.settled()
    bench.want(str(path), asked=True)
    assert len(bench.swapper.facts()["swaps"]) == 1, "it is as it was"
    path.write_bytes(b"two!")
    bench.want(str(path))
    assert len(bench.swapper.facts()["swaps"]) == 1, "nobody asked"
    bench.want(str(path), asked=True)
    assert bench.settled()["state"] == "unchanged", "the digest is the same after all"
    bench.want(str(path), asked=True)
    assert len(bench.swapper.facts()["swaps"]) == 2
    assert bench.swapper.succeeded


def test_twenty_in_a_row_while_streams_come_and_go(bench: Bench) -> None:
    made: list[Made] = []

    def make() -> FakeDetector:
        made.append(Made(labels={0: str(len(made))}, spec=InputSpec(32 + 32 * (len(made) % 2), 32)))
        return made[-1]

    bench.stream("still")
    begun = None
    for number in range(20):
        bench.models[f"{number}.pt"] = make
        bench.stream(f"s{number}")
        bench.want(f"{{path: {number}.pt, swap: {{frames: 4}}}}")
        assert bench.settled()["state"] == "done"
        bench.pipeline.remove(f"s{number}")
        account = bench.pipeline.ledger.streams[f"s{number}"]
        until(lambda account=account: account.over, "its end")  # type: ignore[misc]
        bench.serves(str(number))
        begun = begun or threading.active_count()
        assert threading.active_count() <= begun + 1
    assert [detector.closed for detector in made] == [1] * 19 + [0]
    assert len(bench.swapper.facts()["swaps"]) == 20
    assert bench.swapper.facts()["swaps"][-1]["number"] == 20
