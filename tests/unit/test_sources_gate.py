# SPDX-License-Identifier: Apache-2.0
"""Turns at connecting: in order, so many at a time, and nobody keeps the others out for ever."""

from __future__ import annotations

import threading
from functools import partial

from pipeline.sources.gate import LONGEST_NS, Gate
from pipeline.testing import ManualClock
from pipeline.threads import StopFlag
from tests.background import DEADLINE_S, Background, until


def test_so_many_at_a_time_first_come_first_served() -> None:
    gate, leave = Gate(2), [threading.Event() for _ in range(5)]
    order: list[int] = []

    def visit(number: int) -> None:
        with gate.turn(StopFlag()) as may:
            assert may
            order.append(number)
            assert leave[number].wait(DEADLINE_S)

    visitors = []
    for number in range(5):
        visitors.append(Background(partial(visit, number)))
        until(lambda: len(order) + len(gate._waiting) == len(visitors), "it queues")
    assert sorted(order) == [0, 1]
    leave[1].set()
    until(lambda: len(order) == 3, "the next one's turn")
    assert order[2] == 2
    for event in leave:
        event.set()
    for visitor in visitors:
        visitor.result()
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert not gate._inside
    assert not gate._waiting


def test_a_stop_ends_the_wait() -> None:
    gate, stop = Gate(1), StopFlag()

    def visit() -> bool:
        with gate.turn(stop) as may:
            return may

    with gate.turn(StopFlag()) as first:
        assert first
        waiting = Background(visit)
        until(lambda: gate._waiting, "it queues")
        stop.set()
        assert waiting.result() is False
    assert not gate._waiting


def test_who_never_comes_out_counts_no_more() -> None:
    clock = ManualClock()
    gate = Gate(1, clock)

    def visit() -> bool:
        with gate.turn(StopFlag()) as may:
            return may

    with gate.turn(StopFlag()):
        visitor = Background(visit)
        until(lambda: gate._waiting, "it queues")
        clock.advance(LONGEST_NS)
        assert visitor.result() is True
