# SPDX-License-Identifier: Apache-2.0
"""When a feed counts as standing still, when this machine is suspected instead, and when a reader is given up."""

from __future__ import annotations

import logging

import pytest

from pipeline.daemon.supervise import LOOK_NS, MOST_STUCK, STUCK_NS, Supervisor
from pipeline.events import Condition, StreamState
from pipeline.frame import SourceCounters, StreamInfo
from pipeline.ledger import Ledger, StreamLedger
from pipeline.testing import ManualClock

SECOND = 1_000_000_000


class Feeds:
    """Accounts of feeds, a supervisor that looks at them, and what it did."""

    def __init__(self, *names: str, fps: float = 25.0, hang: bool = True, limit_s: float = 15.0) -> None:
        self.clock = ManualClock()
        self.ledger = Ledger()
        self.given_up: list[str] = []
        self.restarted: list[str] = []
        for name in names:
            account = StreamLedger(name, live=True)
            account.at(Condition("connecting"))
            account.opened(StreamInfo(name, live=True, fps=fps), SourceCounters(), self.clock.now_ns())
            account.at(Condition("live"))
            self.ledger.add(account)

        def give_up(name: str) -> bool:
            self.given_up.append(name)
            return hang

        self.supervisor = Supervisor(
            self.ledger, give_up, self.restarted.append, lambda name: limit_s, self.clock.now_ns
        )
        self.supervisor.look()

    def second(self, *moving: str, frames: int = 25) -> None:
        """A second passes, in which some feeds bring frames."""
        for name in moving:
            for _ in range(frames):
                self.ledger.streams[name].arrived(self.clock.now_ns(), 0.0, 0, False)
        self.clock.advance(LOOK_NS)
        self.supervisor.look()

    def state(self, name: str) -> str:
        return self.ledger.streams[name].state


def test_a_feed_that_stands_still_is_named_and_named_again_when_it_moves(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    feeds = Feeds("a", "b", "c")
    for _ in range(3):
        feeds.second("a", "b", "c")
    for _ in range(3):
        feeds.second("a", "b")
    assert feeds.state("c") == "live"
    feeds.second("a", "b")
    assert (feeds.state("a"), feeds.state("c")) == ("live", "stalled")
    assert feeds.ledger.streams["c"].error == "no frame for 4 s"
    feeds.second("a", "b")
    feeds.second("a", "b", "c")
    assert (feeds.state("c"), feeds.ledger.streams["c"].error) == ("live", None)
    assert [record.message for record in caplog.records] == ["c: stalled: no frame for 4 s", "c: frames again"]


def test_slow_feeds_have_ten_intervals() -> None:
    feeds = Feeds("a", "b", "slow", fps=25.0)
    for second in range(12):  # a frame every other second, whatever its camera declares
        feeds.second("a", "b", *(["slow"] if second % 2 else []), frames=1)
    for _ in range(18):
        feeds.second("a", "b", frames=1)
        assert feeds.state("slow") == "live"
    for _ in range(6):
        feeds.second("a", "b", frames=1)
    assert feeds.state("slow") == "stalled"


def test_when_more_than_half_stand_still_at_once_this_machine_is_suspected(caplog: pytest.LogCaptureFixture) -> None:
    feeds = Feeds("a", "b", "c")
    feeds.second("a", "b", "c")
    for _ in range(4):
        feeds.second("a")
    assert {feeds.state(name) for name in "abc"} == {"live"}
    assert caplog.messages == ["2 of 3 feeds went stale at once: suspecting this machine; doing nothing for a moment"]
    feeds.second("a")
    assert [feeds.state(name) for name in "abc"] == ["live", "stalled", "stalled"], "one look later it is them"
    feeds.second("a", "b", "c")
    assert {feeds.state(name) for name in "abc"} == {"live"}


def test_after_the_machine_stood_still_nobody_is_blamed(caplog: pytest.LogCaptureFixture) -> None:
    feeds = Feeds("a", "b", "c")
    feeds.second("a", "b", "c")
    feeds.clock.advance(90 * SECOND)
    feeds.supervisor.look()
    assert {feeds.state(name) for name in "abc"} == {"live"}
    assert feeds.given_up == []
    assert caplog.messages == ["this check came late: suspecting this machine; doing nothing for a moment"]
    for _ in range(4):
        feeds.second("a", "b")
    assert feeds.state("c") == "stalled", "its time began anew"


def test_a_reader_that_hangs_is_given_up_and_its_stream_begun_anew() -> None:
    feeds = Feeds("a", "b", "c")
    feeds.second("a", "b", "c")
    for _ in range(STUCK_NS // SECOND):
        feeds.second("a", "b")
    assert feeds.given_up == []
    feeds.second("a", "b")
    assert (feeds.given_up, feeds.restarted, feeds.supervisor.left_behind) == (["c"], ["c"], 1)


def test_a_reader_that_waits_for_us_is_not_given_up() -> None:
    feeds = Feeds("a", "b", "c", hang=False)
    for _ in range(2 * STUCK_NS // SECOND):
        feeds.second("a", "b")
    assert "c" in feeds.given_up
    assert (feeds.restarted, feeds.supervisor.left_behind) == ([], 0)


def test_a_picture_that_does_not_change_is_named_once_and_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    feeds = Feeds("a", "b")
    feeds.ledger.streams["b"].counters.still_since_ns = feeds.clock.now_ns()
    for _ in range(40):
        feeds.ledger.streams["a"].counters.still_since_ns = feeds.clock.now_ns()
        feeds.second("a", "b")
    assert feeds.state("b") == "live"
    assert feeds.given_up == []
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("b: the picture has not changed for 3")
    feeds.ledger.streams["b"].counters.still_since_ns = feeds.clock.now_ns()
    feeds.second("a", "b")
    assert caplog.records[-1].getMessage() == "b: the picture changes again"


@pytest.mark.parametrize("state", ["backoff", "auth_failed", "failed", "paused", "stopped"])
def test_who_waits_on_purpose_does_not_hang(state: StreamState) -> None:
    feeds = Feeds("a", "b", "c")
    feeds.ledger.streams["c"].at(Condition(state, "as told"))
    for _ in range(3 * STUCK_NS // SECOND):
        feeds.second("a", "b")
    assert feeds.given_up == []
    assert feeds.state("c") == state


def test_connecting_again_and_again_is_no_hanging_but_one_endless_attempt_is() -> None:
    feeds = Feeds("a", "b", "c", "d")
    for _ in range(2 * STUCK_NS // SECOND):
        feeds.ledger.streams["c"].at(Condition("connecting"))
        if feeds.state("d") != "connecting":
            feeds.ledger.streams["d"].at(Condition("connecting"))
        feeds.second("a", "b")
    assert set(feeds.given_up) == {"d"}


def test_a_source_that_may_take_long_is_waited_for() -> None:
    feeds = Feeds("a", "b", "c", limit_s=80.0)
    for _ in range(150):
        feeds.second("a", "b")
    assert feeds.given_up == []
    for _ in range(20):
        feeds.second("a", "b")
    assert feeds.given_up[0] == "c"


def test_only_so_many_are_left_behind() -> None:
    hanging = [f"c{number}" for number in range(MOST_STUCK + 3)]
    moving = [f"m{number}" for number in range(MOST_STUCK + 4)]
    feeds = Feeds(*hanging, *moving)
    assert not feeds.supervisor.exhausted
    for _ in range(STUCK_NS // SECOND + 2):
        feeds.second(*moving)
    assert feeds.supervisor.left_behind == MOST_STUCK
    assert len(feeds.given_up) == MOST_STUCK
    assert feeds.supervisor.exhausted, "only a new process helps"


def test_recordings_and_earlier_lives_are_none_of_its_business() -> None:
    feeds = Feeds("a", "b", "c")
    feeds.ledger.add(StreamLedger("c", live=True))  # another life
    file = StreamLedger("file")
    file.opened(StreamInfo("file"), SourceCounters(), feeds.clock.now_ns())
    feeds.ledger.add(file)
    for _ in range(2 * STUCK_NS // SECOND):
        feeds.second("a", "b")
    assert feeds.given_up == []
    assert file.state == "live"
