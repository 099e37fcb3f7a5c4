# SPDX-License-Identifier: Apache-2.0
"""Faults of plug-ins and of the system in the read loop cost their own stream, and leave the balance right."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pipeline.flow import Pipeline
from pipeline.frame import Capture
from pipeline.ledger import StreamLedger
from pipeline.stream import FlowOptions, Stream
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource
from tests.background import DEADLINE_S

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
