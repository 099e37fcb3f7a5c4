# SPDX-License-Identifier: Apache-2.0
"""Threads that are handed work: who does it, who waits for it, and who need not."""

from __future__ import annotations

import threading

import pytest

from pipeline.errors import InferenceError
from pipeline.threads import Closed, Crew
from tests.background import Background


def test_whoever_is_free_first_does_what_comes() -> None:
    crew: Crew[int] = Crew(["one", "two"])
    crew.start()
    assert [crew.hand(lambda number=number: number * 2).result() for number in range(5)] == [0, 2, 4, 6, 8]  # type: ignore[misc]
    failing = crew.hand(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failing.result()
    assert crew.rest()


def test_one_that_does_not_get_ready_ends_all() -> None:
    def refuse() -> None:
        raise InferenceError("no")

    crew: Crew[int] = Crew(["one", "two"], refuse)
    with pytest.raises(InferenceError):
        crew.start()
    assert crew.rest()


def test_nobody_waits_for_one_that_hangs_as_it_gets_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.threads.crew.REST_S", 0.05)
    hangs, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        hangs.wait(30)

    crew: Crew[bool] = Crew(["one", "two"], hang)
    starting = Background(crew.start)
    assert begun.wait(30)
    crew.give_up()
    with pytest.raises(Closed):
        starting.result()
    with pytest.raises(Closed):
        crew.start()
    hangs.set()


def test_what_was_given_up_is_waited_for_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.threads.crew.REST_S", 0.05)
    hangs, begun = threading.Event(), threading.Event()

    def hang() -> bool:
        begun.set()
        return hangs.wait(30)

    crew: Crew[bool] = Crew(["one"])
    crew.start()
    handed = crew.hand(hang)
    assert begun.wait(30)
    crew.give_up()
    with pytest.raises(Closed):
        handed.result()
    with pytest.raises(Closed):
        crew.hand(lambda: True)
    assert not crew.rest(), "it hangs still"
    hangs.set()
