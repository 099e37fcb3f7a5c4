# SPDX-License-Identifier: Apache-2.0
"""Threads that share cores, in simulated time: hand-worked cases, and what must hold in any."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.plan.processor import Machine, Server

MS = 1_000_000


def test_threads_share_the_cores_evenly() -> None:
    """Three threads on two cores: each has 2/3 of a core until the first is done."""
    machine, ended = Machine(2), dict[str, float]()
    for name, work_ms in (("a", 20), ("b", 40), ("c", 40)):
        machine.work(work_ms * MS, lambda name=name: ended.update({name: machine.now_ns() / MS}))  # type: ignore[misc]
    machine.run(1000 * MS)
    assert ended == {"a": pytest.approx(30), "b": pytest.approx(50), "c": pytest.approx(50)}
    assert machine.busy_ns == pytest.approx(100 * MS)
    assert machine.now_ns() == 1000 * MS


def test_a_thread_alone_has_one_core_whatever_there_is() -> None:
    machine, ended = Machine(8), list[int]()
    machine.work(10 * MS, lambda: ended.append(machine.now_ns()))
    machine.run(100 * MS)
    assert ended == [10 * MS]


def test_what_others_leave_of_a_core_is_a_slower_one() -> None:
    machine, ended = Machine(0.5), list[int]()
    machine.work(10 * MS, lambda: ended.append(machine.now_ns()))
    machine.run(100 * MS)
    assert ended == [20 * MS]


def test_work_of_several_threads_takes_as_many_cores() -> None:
    machine, ended = Machine(2), dict[str, float]()
    machine.work(30 * MS, lambda: ended.update(wide=machine.now_ns() / MS), threads=2)
    machine.work(10 * MS, lambda: ended.update(narrow=machine.now_ns() / MS))
    machine.run(100 * MS)
    assert ended == {"narrow": pytest.approx(15), "wide": pytest.approx(35)}


def test_timers_and_work_come_in_the_order_of_time() -> None:
    machine, order = Machine(1), list[str]()
    machine.at(5 * MS, lambda: order.append("timer"))
    machine.work(3 * MS, lambda: machine.work(4 * MS, lambda: order.append("second")))
    machine.at(2 * MS, lambda: machine.at(1 * MS, lambda: order.append("past")))
    machine.run(20 * MS)
    assert order == ["past", "timer", "second"]


def test_a_server_does_one_thing_after_another() -> None:
    machine, ended = Machine(4), list[int]()
    server = Server(machine)
    for _ in range(3):
        server.give(10 * MS, lambda: ended.append(machine.now_ns()))
    assert len(server) == 2
    machine.run(100 * MS)
    assert ended == [10 * MS, 20 * MS, 30 * MS]
    assert server.work_ns == 30 * MS


def test_a_device_needs_no_core() -> None:
    machine, ended = Machine(1), dict[str, int]()
    Server(machine, cores=False).give(10 * MS, lambda: ended.update(device=machine.now_ns()))
    machine.work(10 * MS, lambda: ended.update(thread=machine.now_ns()))
    machine.run(100 * MS)
    assert ended == {"device": 10 * MS, "thread": 10 * MS}
    assert machine.busy_ns == 10 * MS


@given(
    jobs=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1, max_size=30), cores=st.integers(1, 4)
)
@settings(max_examples=100, deadline=None)
def test_no_work_is_lost_and_cores_are_never_idle_while_there_is_some(jobs: list[tuple[int, int]], cores: int) -> None:
    """At every moment min(cores, ready) cores are busy; so all is done by the end of what one core would take, and not
    before all cores could have done it."""
    machine, ended = Machine(cores), list[int]()

    def start(work_ms: int) -> None:
        machine.work(work_ms * MS, lambda: ended.append(machine.now_ns()))

    for at_ms, work_ms in jobs:
        machine.at(at_ms * MS, lambda work_ms=work_ms: start(work_ms))  # type: ignore[misc]
    machine.run(10_000 * MS)
    whole_ns = sum(work_ms for _, work_ms in jobs) * MS
    assert len(ended) == len(jobs)
    assert machine.busy_ns == pytest.approx(whole_ns)
    assert whole_ns / cores - 1 <= max(ended) <= max(at_ms for at_ms, _ in jobs) * MS + whole_ns + 1
