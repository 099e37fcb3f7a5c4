# SPDX-License-Identifier: Apache-2.0
"""The daemon's words about late frames: soon, and few."""

from __future__ import annotations

import logging

import pytest

from pipeline.daemon.late import EVERY_NS, LateNews
from pipeline.ledger import StreamLedger
from pipeline.testing import ManualClock
from tests.journeys import World


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def world() -> World:
    world = World("gate", "lobby", budget_ms=80)
    world.as_usual("gate", 30)
    world.as_usual("lobby", 30)
    return world


def looked(world: World, news: LateNews, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is said at the next second."""
    caplog.clear()
    caplog.set_level(logging.INFO, "pipeline")
    clock.advance(EVERY_NS)
    news.look(world.ledger, clock.now_ns())
    return caplog.messages


def test_the_worst_is_told_and_how_many_others(
    world: World, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    news = LateNews()
    assert looked(world, news, clock, caplog) == []
    world.frame("gate", infer=100)
    world.frame("lobby", sink=301)
    world.frame("lobby", decode=84)
    assert looked(world, news, clock, caplog) == [
        "lobby: frame 30 took 346 ms, its budget is 80 ms: sink +300 ms: jsonl wrote (and 2 more late)"
    ]
    assert looked(world, news, clock, caplog) == [], "what was told is no news"


def test_at_most_a_line_a_second(world: World, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    news = LateNews()
    world.frame("gate", infer=100)
    assert len(looked(world, news, clock, caplog)) == 1
    world.frame("gate", infer=100)
    news.look(world.ledger, clock.now_ns())
    assert len(caplog.messages) == 1
    assert len(looked(world, news, clock, caplog)) == 1


def test_the_same_trouble_is_the_same_whatever_its_numbers(
    world: World, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    news = LateNews()
    kinds = []
    for parts in ({"infer": 100}, {"infer": 300}, {"decode": 300}):
        world.frame("gate", **parts)
        looked(world, news, clock, caplog)
        kinds.append(caplog.records[0].__dict__["same"])
    assert kinds == ["gate: late in infer"] * 2 + ["gate: late in decode"]


def test_a_stream_that_begins_anew_begins_with_nothing(
    world: World, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    news = LateNews()
    world.frame("gate", infer=100)
    looked(world, news, clock, caplog)
    world.ledger.add(StreamLedger("gate", live=True, budget_ns=80_000_000))
    assert looked(world, news, clock, caplog) == []
    world.frame("gate", infer=200)
    assert looked(world, news, clock, caplog)[0].startswith("gate: frame 31 took 216 ms")


def test_what_is_only_unusual_is_no_warning(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    world = World("gate")
    world.as_usual("gate", 256)
    news = LateNews()
    looked(world, news, clock, caplog)
    world.frame("gate", infer=130)
    assert looked(world, news, clock, caplog) == [
        "gate: frame 256 took 146 ms, longer than 99 of 100: infer +100 ms: batch 7 of size 2"
    ]
    assert caplog.records[0].levelno == logging.INFO
