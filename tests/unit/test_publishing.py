# SPDX-License-Identifier: Apache-2.0
"""The follow loop's body: outcomes of any order become results in order, and every loss is told with the next one."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import numpy as np
import pytest

from pipeline.flow.outlet import Began, Delivery, Ended
from pipeline.flow.publishing import Closing
from pipeline.flow.stream import Stream
from pipeline.frame import Detections, Frame, Outcome, Picture
from pipeline.testing import one_box
from pipeline.timing import SLOTS, Mark
from tests.publishers import Bench, frame


def outcome(stream: Stream, sequence: int, **options: Any) -> Outcome:
    return Outcome(frame(stream, sequence), options.pop("detections", one_box(sequence)), **options)


def lost(stream: Stream, sequence: int, reason: str = "overflow") -> Outcome:
    return Outcome(frame(stream, sequence), dropped=reason)  # type: ignore[arg-type]


def test_a_result_says_everything_about_its_frame() -> None:
    bench = Bench()
    stream = bench.stream()
    picture = Picture((np.zeros((48, 64), np.uint8),), "gray")
    whole = frame(stream, 0, 12, picture)
    bench.handle(Outcome(whole, one_box(9), marks=(2, 3, 4, 0, 0, 5, 6, 7)))
    (result,) = bench.results()
    assert (result.stream, result.frame, result.pts, result.epoch) == ("a", 12, 0.48, 3)
    assert (result.wall_ns, result.width, result.height) == (1_700_000_000_000_000_012, 64, 48)
    assert (result.labels, result.dropped_before) == ({0: "thing"}, 0)
    assert result.picture is picture
    assert result.trace == [1, 0, 0, 0, 2, 3, 4, 0, 0, 5, 6, 7, 1000, 1000, 0, 0, 0, *[0] * (SLOTS - len(Mark))]
    np.testing.assert_array_equal(result.detections.confidence, one_box(9).confidence)


def test_sinks_hear_of_a_stream_before_its_results_and_of_its_end_after_them() -> None:
    bench = Bench()
    stream = bench.stream()
    bench.handle(outcome(stream, 2))
    bench.handle(Closing(stream, 3))
    bench.handle(outcome(stream, 0))
    assert bench.kinds() == ["Began", "Delivery"]
    bench.handle(outcome(stream, 1))
    assert bench.kinds() == ["Began", "Delivery", "Delivery", "Delivery", "Ended"]
    assert [result.frame for result in bench.results()] == [0, 1, 2]


@pytest.mark.parametrize("last", ["outcome", "closing"])
def test_the_end_is_told_once_whatever_comes_last(last: str) -> None:
    bench = Bench()
    stream = bench.stream()
    events = [Closing(stream, 1), outcome(stream, 0)]
    for event in events if last == "outcome" else reversed(events):
        bench.handle(event)
    assert bench.kinds() == ["Began", "Delivery", "Ended"]


def test_a_stream_without_frames_ends_too() -> None:
    bench = Bench()
    bench.handle(Closing(bench.stream(), 0))
    assert bench.kinds() == ["Began", "Ended"]


def test_a_stream_is_settled_when_the_sinks_have_closed_it() -> None:
    bench = Bench(outlets=2)
    stream = bench.stream()
    bench.handle(outcome(stream, 0))
    bench.handle(Closing(stream, 1))
    _, delivery, ended = bench.events
    assert isinstance(delivery, Delivery)
    assert isinstance(ended, Ended)
    for _ in range(2):
        delivery.done(1500, 2000)
        assert stream.account.times.measured(0).latency.end_to_end.histogram.count == _
        ended.done()
    assert stream.account.times.measured(0).latency.end_to_end.histogram.count == 0  # given away
    assert stream.account.as_dict(0)["end_to_end"]["count"] == 1
    assert bench.ledger.as_dict()["total"]["end_to_end"]["count"] == 1


def test_it_is_not_settled_while_a_result_that_gave_way_is_being_accounted_for() -> None:
    """Its outlet has taken the result out for a newer one, and the sink hears of the end before that is counted."""
    bench = Bench()
    stream = bench.stream()
    bench.handle(outcome(stream, 0), Closing(stream, 1))
    _, pushed_out, ended = bench.events
    assert isinstance(pushed_out, Delivery)
    assert isinstance(ended, Ended)
    ended.done()
    assert stream.account.settled is None
    pushed_out.done()
    assert stream.account.settled is not None
    assert stream.account.settled["end_to_end"]["count"] == stream.account.processed == 1
    assert bench.ledger.as_dict()["total"]["end_to_end"]["count"] == 1


def test_a_stream_that_has_ended_is_let_go() -> None:
    bench = Bench()
    follower = Follows()
    seen = weakref.ref(follower)
    stream = bench.stream(follower=follower)
    bench.handle(Closing(stream, 1))
    bench.handle(outcome(stream, 0))
    del follower, stream
    gc.collect()
    assert seen() is None  # a run over thousands of files stays small


def test_lost_frames_are_told_with_the_next_result() -> None:
    bench = Bench()
    stream = bench.stream()
    for sequence, reason in enumerate(["", "overflow", "stage_error", "", "", "corrupt", "", "overflow"]):
        bench.handle(lost(stream, sequence, reason) if reason else outcome(stream, sequence))
    assert [(result.frame, result.dropped_before) for result in bench.results()] == [(0, 0), (3, 2), (4, 0), (6, 1)]
    assert stream.account.dropped == {"overflow": 2, "stage_error": 1, "corrupt": 1}
    assert stream.account.processed == 4


def test_streams_do_not_wait_for_each_other_nor_share_their_losses() -> None:
    bench = Bench()
    a, b = bench.stream("a", 1), bench.stream("b", 2)
    bench.handle(outcome(a, 1))
    bench.handle(lost(a, 2))
    bench.handle(outcome(b, 0))
    assert [(result.stream, result.dropped_before) for result in bench.results()] == [("b", 0)]


def test_a_name_that_comes_again_starts_anew_while_its_earlier_life_drains() -> None:
    bench = Bench()
    old, new = bench.stream("a", 1), bench.stream("a", 2)
    bench.handle(lost(old, 0))
    bench.handle(Closing(old, 2))
    bench.handle(outcome(new, 0))
    bench.handle(outcome(old, 1))
    assert [(result.frame, result.dropped_before) for result in bench.results()] == [(0, 0), (1, 1)]
    assert bench.kinds() == ["Began", "Began", "Delivery", "Delivery", "Ended"]
    assert (old.account.processed, new.account.processed) == (1, 1)


class Follows:
    """Notes what it is told and answers with boxes of its own; breaks on some frames."""

    def __init__(self, *breaks: int) -> None:
        self.seen: list[tuple[int, int | None]] = []
        self.breaks = breaks

    def follow(self, frame: Frame, detections: Detections | None) -> Detections:
        self.seen.append((frame.index, None if detections is None else len(detections)))
        if frame.index in self.breaks:
            raise KeyError("a fault of a plug-in")
        return one_box(255)


class TestFollower:
    def test_it_sees_every_frame_that_is_left_in_order(self) -> None:
        bench = Bench()
        follower = Follows()
        stream = bench.stream(follower=follower)
        unseen = Outcome(frame(stream, 1))
        for event in (outcome(stream, 3), lost(stream, 2), unseen, outcome(stream, 0, detections=Detections.empty())):
            bench.handle(event)
        assert follower.seen == [(0, 0), (1, None), (3, 1)]
        assert [float(result.detections.confidence[0]) for result in bench.results()] == [1.0] * 3

    def test_its_time_is_the_follow_stage(self) -> None:
        bench = Bench()

        class Slow(Follows):
            def follow(self, frame: Frame, detections: Detections | None) -> Detections:
                bench.clock.advance(70)
                return super().follow(frame, detections)

        bench.handle(outcome(bench.stream(follower=Slow()), 0))
        (result,) = bench.results()
        assert (result.trace[Mark.FOLLOW], result.trace[Mark.FOLLOWED]) == (1000, 1070)

    def test_without_one_nobody_looked_means_nothing_found(self) -> None:
        bench = Bench()
        bench.handle(Outcome(frame(bench.stream(), 0)))
        (result,) = bench.results()
        assert len(result.detections) == 0

    def test_its_failure_costs_the_frame(self, caplog: pytest.LogCaptureFixture) -> None:
        bench = Bench()
        stream = bench.stream(follower=Follows(1))
        stream.account.state = "live"
        causes = []
        with caplog.at_level(logging.ERROR, "pipeline"):
            for sequence in range(3):
                bench.handle(outcome(stream, sequence))
                causes.append(stream.account.life.cause)
        assert causes == [None, "stage", None]
        assert [(result.frame, result.dropped_before) for result in bench.results()] == [(0, 0), (2, 1)]
        assert stream.account.dropped == {"stage_error": 1}
        assert "a: frame 1: the follower failed" in caplog.text


def test_the_sinks_are_told_what_is_known_of_the_stream() -> None:
    bench = Bench()
    bench.stream("gate")
    (began,) = bench.events
    assert isinstance(began, Began)
    assert began.info.name == "gate"
