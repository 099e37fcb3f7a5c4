# SPDX-License-Identifier: Apache-2.0
"""Runs that nobody would think of: parts that fail now and then, streams that come, go and are begun anew, models that
are swapped, and somebody who asks all the while. Whatever happens, each frame is accounted for, each result too, and
every buffer comes back. ``FUZZ=100`` makes a hundred times as many."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from pipeline.errors import InferenceError, SinkError, SourceError, StageError
from pipeline.flow import Pipeline
from pipeline.flow.lanes import Terms
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Batch, Capture, Detections, Frame, Geometry, InputSpec, Picture, Result, Uint8Array
from pipeline.ledger import StreamLedger
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource
from pipeline.timing import PlayoutDelay, now_ns

TIMES = int(os.environ.get("FUZZ", "1"))
MS = 1_000_000
LONGEST_S = 30.0
"""A run that takes longer hangs."""


@pytest.fixture(autouse=True)
def short_turns() -> Iterator[None]:
    """Threads take turns ten times as often as usual: what can come in between does."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 10)
    yield
    sys.setswitchinterval(usual)


class Source(ScriptedSource):
    """Frames at odd intervals, of which some are missed; time stamps begin anew, and now and then it breaks."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._epoch = 0
        self._slow_s = chance.choice((0.0, 0.0005, 0.005))
        super().__init__(range(chance.choice((0, 1, 2, 30, 150))))

    def read(self) -> Capture | None:
        assert self.stop is not None
        self.stop.wait(self._chance.random() * self._slow_s)
        luck = self._chance.random()
        if luck < 0.002:
            raise SourceError("gone")
        if luck < 0.003:
            raise RuntimeError("a fault of the source")
        self._epoch += luck < 0.02
        capture = super().read()
        if capture is None:
            return None
        missed = self._chance.randint(1, 3) if luck > 0.97 else 0
        self._index += missed
        return replace(capture, index=capture.index + missed, missed=missed, epoch=self._epoch)


class Stage(CopyStage):
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        luck = self._chance.random()
        if luck < 0.01:
            raise StageError("not this one")
        if luck < 0.012:
            raise ValueError("a fault of the stage")
        return super().prepare(picture, spec, out)


class Detector(FakeDetector):
    def __init__(self, chance: random.Random, depth: int) -> None:
        super().__init__(max_batch=8, depth=depth, spec=InputSpec(*chance.choice(((32, 32), (64, 64)))))
        self._chance = chance

    def submit(self, batch: Batch) -> Any:
        threading.Event().wait(self._chance.random() * 0.003)
        if self._chance.random() < 0.02:
            raise InferenceError("not this batch")
        return super().submit(batch)


class Sink(ListSink):
    def __init__(self, chance: random.Random, name: str) -> None:
        super().__init__(name=name)
        self._chance = chance

    def begin(self, info: Any) -> None:
        self._may_fail(0.01)
        super().begin(info)

    def write(self, result: Result) -> None:
        self._may_fail(0.01)
        if self._chance.random() < 0.003:
            threading.Event().wait(0.01)
        super().write(result)

    def end(self, stream: str) -> None:
        self._may_fail(0.01)
        super().end(stream)

    def close(self) -> None:
        self._may_fail(0.05)
        super().close()

    def _may_fail(self, share: float) -> None:
        luck = self._chance.random()
        if luck < share / 5:
            raise RuntimeError("a fault of the sink")
        if luck < share:
            raise SinkError("no room")


class Follower:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def follow(self, frame: Frame, detections: Detections | None) -> Detections:
        if self._chance.random() < 0.01:
            raise ValueError("a fault of the follower")
        return Detections.empty() if detections is None else detections


class Run:
    """A pipeline, and what is done to it.

    Attributes:
        cut: it was ended before its time, so that some frames and results were lost to the shutdown.
    """

    def __init__(self, seed: int) -> None:
        self._chance = chance = random.Random(seed)
        self._fixed = chance.random() < 0.3
        self._depth = chance.choice((1, 1, 2))
        self.sinks = [Sink(self._another(), f"sink{number}") for number in range(chance.randint(0, 2))]
        required = frozenset(("sink0",)) if self.sinks and chance.random() < 0.15 else frozenset()
        options = replace(
            self._options(),
            parallel=chance.choice((None, None, 2)),
            outlet_policy=chance.choice(("every_frame", "freshest")),
            outlet_capacity=chance.randint(1, 6),
            required_sinks=required,
        )
        self.pipeline = Pipeline(Detector(self._another(), self._depth), self.sinks, options)
        self.cut = False
        self._names: list[str] = []

    def go(self) -> None:
        self.pipeline.start()
        with self._asked():
            for number in range(self._chance.randint(1, 4)):
                self._add(f"s{number}")
            for _ in range(self._chance.randint(0, 12)):
                threading.Event().wait(self._chance.random() * 0.03)
                if not self._do_something():
                    break
            (self.pipeline.stop if self._chance.random() < 0.4 else self.pipeline.finish)()
            try:
                over = self.pipeline.join(LONGEST_S)
            except SinkError:  # of a required one
                over = True
            self.cut = self.cut or self.pipeline.failure is not None
            assert over, (self.pipeline.alive(), self.pipeline.waiting())

    def _do_something(self) -> bool:
        """False where nothing more is to be done."""
        chance, pipeline = self._chance, self.pipeline
        luck = chance.random()
        if luck < 0.3:
            pipeline.remove(chance.choice(self._names))
        elif luck < 0.6:
            name = chance.choice([*self._names, f"s{len(self._names)}"])
            pipeline.remove(name)
            self._add(name)
        elif luck < 0.75:
            self._swap()
        elif luck < 0.8:
            pipeline.abandon(chance.choice(self._names))
        elif luck < 0.86:
            self.cut = luck < 0.83
            (pipeline.abort if self.cut else pipeline.stop)()
            return False
        elif luck < 0.9:
            pipeline.pause(chance.choice(self._names), True)
        return True

    def _add(self, name: str) -> None:
        chance = self._chance
        fresh = not self._fixed and chance.random() < 0.6
        staleness_ns = chance.choice((None, 5 * MS, 30 * MS)) if fresh else None
        policy = "freshest" if fresh else "every_frame"
        delay = chance.choice((None, PlayoutDelay(chance.choice((0, 5, 50)) * MS), PlayoutDelay(percentile=90)))
        stream = Stream(
            Source(self._another()),
            [Stage(self._another()) for _ in range(chance.choice((1, 1, 1, 3)))],
            StreamLedger(name, paced=True, live=chance.random() < 0.5, playout=delay),
            terms=Terms(chance.randint(1, 4), policy, chance.choice((None, 20 * MS)), staleness_ns),  # type: ignore[arg-type]
            keep=partial(_all_but, chance.choice((None, 3))),
            gate=partial(_all_but, chance.choice((None, 4))),
            follower=Follower(self._another()) if chance.random() < 0.5 else None,
            limit=chance.choice((None, None, 40)),
        )
        self._names.append(name)
        self.pipeline.add(stream)

    def _swap(self) -> None:
        models = self.pipeline.models
        model = models.deploy(Detector(self._another(), self._depth), self._options())
        model.warm()
        if self._chance.random() < 0.3:
            with models.compare(model) as share, suppress(Exception):
                for _ in range(3):
                    if (batch := share.next(0.01)) is not None:
                        share.release(batch)
        if self.pipeline.switch(model) is None:
            model.dismiss(5)

    def _options(self) -> FlowOptions:
        chance = self._chance
        return FlowOptions(
            batch_size=chance.randint(1, 6),
            fixed_batch=self._fixed,
            max_wait_ms=chance.choice((0.0, 2.0, 10.0)),
            workers=chance.randint(1, 3),
        )

    def _another(self) -> random.Random:
        return random.Random(self._chance.random())

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Somebody wants figures, again and again."""
        stop = threading.Event()
        asking = threading.Thread(target=self._ask, args=(stop,), daemon=True)
        asking.start()
        try:
            yield
        finally:
            stop.set()
            asking.join(LONGEST_S)
        assert not asking.is_alive()

    def _ask(self, stop: threading.Event) -> None:
        ledger = self.pipeline.ledger
        while not stop.wait(0.003):
            ledger.as_dict(now_ns())
            ledger.catch_up(late=True)
            ledger.recent(now_ns())
            self.pipeline.waiting()


def _all_but(every: int | None, capture: Capture) -> bool:
    return every is None or capture.index % every != 1


@pytest.mark.parametrize("block", range(2 * TIMES))
def test_every_frame_and_every_result_is_accounted_for(block: int) -> None:
    for seed in range(5 * block, 5 * block + 5):
        run = Run(seed)
        run.go()
        accounted(run, f"seed {seed}")


def accounted(run: Run, seed: str) -> None:
    """The accounts of a run that is over."""
    ledger = run.pipeline.ledger
    report = ledger.as_dict()
    assert ledger.unbalanced() == {}, seed
    processed = 0
    for name, stream in report["streams"].items():
        frames = stream["frames"]
        dropped = sum(frames["dropped"].values())
        assert frames["decoded"] == frames["processed"] + dropped + frames["decimated"], (seed, name)
        processed += frames["processed"]
        if not run.cut:
            assert "shutdown" not in frames["dropped"], (seed, name)
            if frames["processed"] and not stream.get("lives"):  # of many earlier ones only the total has times
                assert stream["end_to_end"]["count"] == frames["processed"], (seed, name)
    for sink in run.sinks:
        account = report["sinks"][sink.name]
        assert account["received"] == account["written"] + sum(account["lost"].values()), (seed, sink.name)
        assert len(sink.results) == account["written"], (seed, sink.name)
        if not run.cut:
            assert account["received"] == processed, (seed, sink.name)
    if not run.cut:
        if processed:
            assert report["total"]["end_to_end"]["count"] == processed, seed
        assert run.pipeline.buffers.stats.in_use == 0, seed
