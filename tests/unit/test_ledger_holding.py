# SPDX-License-Identifier: Apache-2.0
"""Many streams taken apart together: the same figures as one by one, and nobody on the way of a frame waits for it."""

from __future__ import annotations

import threading
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ledger import Ledger, StreamLedger, StreamTimes, held
from pipeline.ledger.times import BLOCK
from pipeline.timing import AGE, EPOCH, PTS, Mark, new_trace

MS = 1_000_000
S = 1_000_000_000

FRAMES = st.lists(
    st.tuples(
        st.integers(0, 3),  # which stream
        st.lists(st.one_of(st.none(), st.integers(0, 300 * MS)), min_size=len(Mark) - 1, max_size=len(Mark) - 1),
        st.booleans(),  # whether it was lost
        st.integers(0, 5 * S),  # after the one before
        st.booleans(),  # whether another connection begins with it
        st.sampled_from([0, 0, 3 * MS, 60 * S, -S]),  # its age by the camera's clock
        st.sampled_from(["", "one", "all"]),  # who is asked after it
    ),
    min_size=1,
    max_size=60,
)


def account(number: int) -> StreamLedger:
    """The last one is a recording that is read as fast as it is used."""
    return StreamLedger(f"s{number}", live=number != 3, budget_ns=400 * MS if number == 1 else None)


def figures(accounts: list[StreamLedger], now_ns: int) -> list[dict[str, Any]]:
    return [one.as_dict(0, at_ns=now_ns) | one.shape(0) for one in accounts]


@settings(max_examples=20, deadline=None)
@given(FRAMES)
def test_taken_apart_together_or_one_by_one_it_is_the_same(frames: list[Any]) -> None:
    alone, many = [account(number) for number in range(4)], [account(number) for number in range(4)]
    at, epochs = S, [0] * 4
    for stream, gaps, lost, after, anew, age, asked in frames:
        at += after
        epochs[stream] += anew
        trace = new_trace()
        trace[PTS], trace[EPOCH], trace[AGE], trace[Mark.READ] = at - S, epochs[stream], age, at
        now = at
        for mark, gap in zip(list(Mark)[1:], gaps, strict=True):
            now += gap or 0
            trace[mark] = now if gap is not None else 0
        trace[Mark.FOLLOWED] = trace[Mark.FOLLOWED] or (0 if lost else now)
        for one in (alone[stream], many[stream]):
            one.arrived(trace[Mark.READ], trace[PTS] / 1e9, epochs[stream], False)
            if lost:
                one.lost("stale", trace)
            else:
                one.published(trace)
                one.finished(trace)
        at = now  # they are published in the order in which they are read
        # One by one after every frame; together when somebody asks.
        alone[stream].as_dict(0)
        if asked == "one":
            many[stream].as_dict(0)
        elif asked == "all":
            with held(many):
                assert StreamTimes.ask_all([one.times for one in many], len) == 4
    with held(many):
        together = figures(many, at + S)
    assert nearly(together, figures(alone, at + S))


def nearly(one: Any, other: Any) -> bool:
    """Equal but for the rounding of floats; freezes and late frames are judged by what was known when frames were taken
    apart."""
    if isinstance(one, dict):
        passed_over = {"freezes", "late", "slow_frames"}
        return one.keys() == other.keys() and all(nearly(one[key], other[key]) for key in one.keys() - passed_over)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(nearly, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-6 * max(1.0, abs(one))
    return bool(one == other)


def whole_way(at_ns: int) -> list[int]:
    trace = new_trace()
    for mark in Mark:
        trace[mark] = at_ns + mark * MS
    return trace


def test_who_is_on_the_way_of_a_frame_does_not_wait_for_an_answer() -> None:
    ledger = Ledger()
    for number in range(3):
        ledger.add(account(number))
    accounts = list(ledger.streams.values())
    done = threading.Event()

    def frames() -> None:
        for number in range(5 * BLOCK):
            for one in accounts:
                trace = whole_way(S + number * 10 * MS)
                one.arrived(trace[Mark.READ], number / 100, number // 7, False)
                one.published(trace)
                one.finished(trace)
                one.lost("stale", whole_way(S + number * 10 * MS))
        done.set()

    with held(accounts):
        worker = threading.Thread(target=frames, daemon=True)
        worker.start()
        assert done.wait(30), "the way of a frame waits for whoever asks"
        assert [one.recent(10 * S)["end_to_end"] for one in accounts] == [None] * 3, "what comes meanwhile is for later"
    worker.join()
    assert [one.recent(4 * S)["end_to_end"]["count"] for one in accounts] == [5 * BLOCK] * 3
    assert [one.as_dict(0)["dropped_after"]["count"] for one in accounts] == [5 * BLOCK] * 3


def test_what_is_left_for_the_cameras_figures_is_bounded() -> None:
    one = account(0)
    for number in range(1500):
        one.arrived(number * 10 * MS, number / 100, 0, False)
        assert one.arrival_jitter_ns is not None or number == 0  # asked for again and again, and nothing else is
    assert sum(map(len, one.arrivals._left)) < 256
    camera = one.as_dict(0)["camera"]
    assert (camera["measured_fps"], camera["behind"]["count"]) == (100.0, 1500)
