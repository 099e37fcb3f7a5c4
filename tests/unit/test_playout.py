# SPDX-License-Identifier: Apache-2.0
"""Results of a stream with a playout delay leave when they are due, in order, and none is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.events import StreamEvent
from pipeline.flow.outlet import Delivery, Ended, Event, Notice
from pipeline.flow.playout import Playout
from pipeline.flow.publishing import Closing, Told
from pipeline.frame import Outcome, StreamKey
from pipeline.testing import ManualClock, one_box
from pipeline.timing import Mark, PlayoutDelay, elapsed, part_times
from tests.publishers import Bench, frame

MS = 1_000_000
GATE, YARD = StreamKey("gate", 1), StreamKey("yard", 1)


class Line:
    """A buffer whose clock is moved by hand; notes what left, and when."""

    def __init__(self) -> None:
        self.clock = ManualClock(0)
        self.playout = Playout(self.clock.now_ns)
        self.left: list[tuple[str, int]] = []

    def add(self, name: str, due_ns: int, key: StreamKey = GATE) -> None:
        self.playout.add(key, due_ns, lambda: self.left.append((name, self.clock.now_ns())))

    def until(self, at_ns: int) -> None:
        """Wake up whenever something is due, as the follow loop does."""
        while (due_ns := self.playout.due_ns) is not None and due_ns <= at_ns:
            self.clock.advance(max(0, due_ns - self.clock.now_ns()))
            self.playout.release()
        self.clock.advance(at_ns - self.clock.now_ns())


def test_each_leaves_when_it_is_due() -> None:
    line = Line()
    for number in range(3):
        line.add(str(number), 10 * (number + 1))
    assert line.playout.due_ns == 10
    line.until(100)
    assert line.left == [("0", 10), ("1", 20), ("2", 30)]
    assert line.playout.due_ns is None


def test_what_is_due_already_leaves_here_and_now() -> None:
    line = Line()
    line.clock.advance(50)
    line.add("late", 40)
    line.add("soon", 0)
    assert line.left == [("late", 50), ("soon", 50)]


def test_nothing_overtakes_in_its_line_and_other_lines_go_on() -> None:
    line = Line()
    line.add("first", 30)
    line.add("loss", 0)
    line.add("earlier by its time", 20)
    line.add("other", 10, YARD)
    line.until(100)
    assert line.left == [("other", 10), ("first", 30), ("loss", 30), ("earlier by its time", 30)]


def test_a_line_that_is_flushed_leaves_at_once_and_begins_anew() -> None:
    line = Line()
    line.add("a", 30)
    line.add("b", 40)
    line.add("other", 35, YARD)
    line.playout.flush(GATE)
    assert line.left == [("a", 0), ("b", 0)]
    assert line.playout.due_ns == 35
    line.add("c", 50)
    line.until(100)
    assert line.left[2:] == [("other", 35), ("c", 50)]


def test_nothing_waits_once_there_is_a_hurry() -> None:
    line = Line()
    line.add("a", 30)
    line.add("b", 20, YARD)
    line.playout.hurry()
    assert line.playout.due_ns == 0
    line.playout.release()
    line.add("c", 90)
    assert line.left == [("b", 0), ("a", 0), ("c", 0)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([GATE, YARD]),
            st.integers(0, 50),  # after how long it is added
            st.integers(0, 200),  # until when it is to wait, from then on; 0: it need not
        ),
        max_size=60,
    )
)
def test_each_leaves_at_its_time_or_when_it_is_ready_or_after_the_one_before(
    entries: list[tuple[StreamKey, int, int]],
) -> None:
    line, at, expected = Line(), 0, []
    last = {GATE: 0, YARD: 0}
    for number, (key, gap, wait) in enumerate(entries):
        at += gap
        line.until(at)
        due = at + wait if wait else 0
        line.add(str(number), due, key)
        last[key] = max(at, due, last[key])
        expected.append((str(number), last[key]))
    line.until(100_000)
    assert sorted(line.left, key=lambda one: int(one[0])) == expected
    for key in (GATE, YARD):
        own = [str(number) for number, entry in enumerate(entries) if entry[0] == key]
        assert [name for name, _ in line.left if name in own] == own


class Held(Bench):
    """A publisher whose stream has a delay: frame n is due at (n + 1) * 100 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.clock.advance(-self.clock.now_ns() + 2)
        self.gate = self.stream("gate")
        self.gate.account.playout.delay = PlayoutDelay(100 * MS)
        self.left: list[tuple[Event, int]] = []
        deliver = self.events.append

        def noted(event: Event) -> None:
            deliver(event)
            self.left.append((event, self.clock.now_ns()))

        self.publisher._deliver = noted

    def outcome(self, number: int, due_ms: int | None = None, **options: Any) -> Outcome:
        made = frame(self.gate, number)
        made.place_ns = (100 * number if due_ms is None else due_ms - 100) * MS
        return Outcome(made, None if "dropped" in options else one_box(number), **options)

    def until(self, at_ms: int) -> None:
        while (due_ns := self.publisher.due_ns) is not None and due_ns <= at_ms * MS:
            self.clock.advance(max(0, due_ns - self.clock.now_ns()))
            self.handle()
        self.clock.advance(at_ms * MS - self.clock.now_ns())

    def told(self) -> list[tuple[str, int]]:
        """What left, and at how many milliseconds."""

        def name(event: Event) -> str:
            return str(event.result.frame) if isinstance(event, Delivery) else type(event).__name__

        return [(name(event), at // MS) for event, at in self.left]

    def tell(self, frames: int) -> None:
        event = StreamEvent("gate", "down", "backoff", 0, cause="timeout")
        self.handle(Told(self.gate, event, frames))


def test_results_that_come_together_leave_in_the_rhythm_of_their_frames() -> None:
    bench = Held()
    bench.handle(*(bench.outcome(number) for number in (2, 0, 1)))
    assert bench.publisher.patience_s() == pytest.approx(0.1, abs=1e-6)
    bench.until(1000)
    assert bench.told() == [("0", 100), ("1", 200), ("2", 300)]
    assert bench.publisher.patience_s() is None
    assert bench.gate.account.playout.as_dict() == {
        "delay_ms": 100.0, "percentile": None, "results": 3, "late": 0, "late_share": 0.0,
    }  # fmt: skip


def test_the_wait_is_a_part_of_the_way_of_its_own() -> None:
    bench = Held()
    bench.until(30)
    bench.handle(bench.outcome(0))
    bench.until(200)
    (result,) = bench.results()
    parts = part_times(result.trace)
    assert (parts["playout"], result.trace[Mark.PLAYED]) == (70 * MS, 100 * MS)
    assert sum(parts.values()) == elapsed(result.trace)
    assert bench.gate.account.last_result_ns == 100 * MS


def test_a_result_that_is_ready_too_late_leaves_at_once_and_is_counted() -> None:
    bench = Held()
    bench.until(150)
    bench.handle(bench.outcome(0), bench.outcome(1))
    bench.until(1000)
    assert bench.told() == [("0", 150), ("1", 200)]
    assert bench.gate.account.playout.as_dict() == {
        "delay_ms": 100.0, "percentile": None, "results": 2, "late": 1, "late_share": 0.5,
    }  # fmt: skip


def test_a_delay_that_follows_the_stream_is_as_long_as_its_results_need() -> None:
    bench = Held()
    delay = bench.gate.account.playout.delay = PlayoutDelay(percentile=99)
    for number in range(400):  # each is ready 30 ms after its place
        bench.until(100 * number + 30)
        made = bench.outcome(number)
        made.frame.place_ns = 100 * number * MS
        bench.handle(made)
    bench.until(100_000)
    at = [at for name, at in bench.told() if name != "Began"]
    assert at[0] == 30  # nothing was known
    assert all(moment - 100 * number == 30 for number, moment in enumerate(at))
    told = bench.gate.account.playout.as_dict()
    assert (told["percentile"], told["delay_ms"]) == (99, round(delay.delay_ns / 1e6, 3))
    assert (told["results"], told["late"]) == (400, 1)


def test_losses_need_no_wait_and_keep_their_place() -> None:
    bench = Held()
    seen: list[tuple[int, str]] = []
    bench.gate.witness = lambda trace, reason: seen.append((bench.clock.now_ns() // MS, reason or "processed"))
    bench.handle(bench.outcome(0), bench.outcome(1, dropped="overflow"), bench.outcome(2, dropped="stale"))
    assert seen == []
    bench.handle(bench.outcome(3))
    bench.until(1000)
    assert [(result.frame, result.dropped_before) for result in bench.results()] == [(0, 0), (3, 2)]
    assert seen == [(100, "processed"), (100, "overflow"), (100, "stale"), (400, "processed")]
    account = bench.gate.account
    account.decoded = 4
    assert (account.processed, account.dropped, account.in_flight) == (2, {"overflow": 1, "stale": 1}, 0)


def test_events_keep_their_place_among_the_results_also_after_the_end() -> None:
    bench = Held()
    bench.handle(bench.outcome(0))
    bench.tell(1)
    bench.handle(bench.outcome(1), Closing(bench.gate, 2))
    bench.tell(2)
    bench.until(1000)
    assert bench.told() == [("0", 100), ("Notice", 100), ("1", 200), ("Ended", 200), ("Notice", 200)]


def test_a_new_epoch_begins_anew_behind_what_is_held() -> None:
    bench = Held()
    bench.handle(bench.outcome(0, 500), bench.outcome(1, 300), bench.outcome(2, 600))
    bench.until(1000)
    assert bench.told() == [("0", 500), ("1", 500), ("2", 600)]


@pytest.mark.parametrize("how", ["removed", "stopped"])
def test_nothing_is_held_of_a_stream_that_is_to_stop(how: str) -> None:
    bench = Held()
    bench.handle(bench.outcome(0), bench.outcome(2))
    stops: dict[str, Callable[[], object]] = {"removed": bench.gate.stop.set, "stopped": bench.publisher.hurry}
    stops[how]()
    bench.handle(Closing(bench.gate, 3))
    bench.until(20)
    bench.handle(bench.outcome(1))
    assert bench.told() == [("0", 0), ("1", 20), ("2", 20), ("Ended", 20)]
    assert bench.gate.account.playout.late == 0


def test_a_stream_without_a_delay_is_not_held() -> None:
    bench = Held()
    other = bench.stream("yard")
    bench.handle(bench.outcome(0), Outcome(frame(other, 0), one_box(0)))
    assert bench.told() == [("Began", 0), ("0", 0)]
    assert bench.results()[0].stream == "yard"
    assert bench.results()[0].trace[Mark.PLAYED] == 0
    assert isinstance(bench.events[-1], Delivery)
    assert not any(isinstance(event, (Ended, Notice)) for event in bench.events)
