# SPDX-License-Identifier: Apache-2.0
"""Which streams wait, which are open, and when nothing more can come."""

from __future__ import annotations

import pytest

from pipeline.flow.roster import Roster
from pipeline.flow.stream import Stream
from pipeline.frame import StreamKey
from pipeline.ledger import StreamLedger
from pipeline.testing import ScriptedSource


def stream(name: str) -> Stream:
    return Stream(ScriptedSource(()), [], StreamLedger(name))


def filled(parallel: int | None, *names: str) -> tuple[Roster, list[Stream]]:
    roster = Roster(parallel)
    streams = [stream(name) for name in names]
    for one in streams:
        roster.add(one)
    return roster, streams


def test_streams_open_in_order_and_at_most_so_many_at_once() -> None:
    roster, (a, b, c) = filled(2, "a", "b", "c")
    assert [roster.next(), roster.next(), roster.next()] == [a, b, None]
    roster.closed(b)
    assert [roster.next(), roster.next()] == [c, None]


def test_without_a_limit_all_open() -> None:
    roster, streams = filled(None, *"abcdefgh")
    assert [roster.next() for _ in range(9)] == [*streams, None]


def test_every_life_has_a_key_of_its_own() -> None:
    _, (first, other, second) = filled(None, "a", "b", "a")
    assert [one.key.name for one in (first, other, second)] == ["a", "b", "a"]
    assert len({first.key, other.key, second.key}) == 3
    assert isinstance(first.key, StreamKey)


def test_the_same_name_twice_takes_two_places() -> None:
    roster, (first, second, _) = filled(2, "a", "a", "b")
    assert [roster.next(), roster.next(), roster.next()] == [first, second, None]


def test_who_is_held_stays_held_when_it_is_begun_anew() -> None:
    """A reader that hangs in native code never hears of the pause: it is its successor that keeps it."""
    said: list[tuple[str, bool]] = []
    lives = [stream("gate") for _ in range(4)]
    for number, life in enumerate(lives):
        life.pause = lambda paused, number=number: said.append((f"life {number}", paused))  # type: ignore[misc]
    roster, _ = filled(None)
    roster.add(lives[0])
    assert roster.next() is lives[0]
    assert roster.pause("gate", True)
    roster.closed(lives[0])
    roster.add(lives[1])
    assert said == [("life 0", True), ("life 1", True)]
    assert roster.pause("gate", False)
    roster.add(lives[2])
    assert said[2:] == [("life 1", False)]
    assert not roster.pause("gone", True), "nobody is held in advance"
    roster.pause("gate", True)
    roster.stop("gate")
    roster.pause("gate", False)  # forgotten with it, by whoever removes it
    said.clear()
    roster.add(lives[3])
    assert said == []


def test_who_waits_for_a_person_is_woken() -> None:
    woken: list[str] = []
    roster, (a, b) = filled(1, "a", "b")
    a.wake = lambda: woken.append("a")
    b.wake = lambda: woken.append("b")
    roster.wake()
    assert woken == [], "nothing is open"
    roster.next()
    roster.wake()
    assert woken == ["a"]


def test_a_stream_is_added_after_the_finish_never_opens() -> None:
    roster, _ = filled(None)
    roster.finish()
    late = stream("late")
    roster.add(late)
    assert roster.next() is None
    assert late.account.state == "stopped"
    assert roster.done


def test_a_stop_ends_what_waits_and_asks_what_is_open() -> None:
    roster, (a, b, c, d) = filled(2, "a", "b", "c", "d")
    roster.next()
    roster.next()
    roster.stop()
    assert [one.stop.is_set() for one in (a, b, c, d)] == [True, True, False, False]
    assert [one.account.state for one in (a, b, c, d)] == ["connecting", "connecting", "stopped", "stopped"]
    roster.closed(a)
    assert roster.next() is None


@pytest.mark.parametrize("name", ["a", "c"])
def test_a_stop_of_one_stream_leaves_the_others(name: str) -> None:
    roster, streams = filled(2, "a", "b", "c", "d")
    roster.next()
    roster.next()
    roster.stop(name)
    assert [one.account.name for one in streams if one.stop.is_set()] == (["a"] if name == "a" else [])
    assert [one.account.name for one in streams if one.account.state == "stopped"] == (["c"] if name == "c" else [])
    for one in streams[:2]:
        roster.closed(one)
    opened = [roster.next(), roster.next()]
    assert [one.account.name for one in opened if one] == (["c", "d"] if name == "a" else ["d"])


def test_a_stop_of_a_name_ends_all_its_lives() -> None:
    roster, (first, second, other) = filled(1, "a", "a", "b")
    roster.next()
    roster.stop("a")
    assert first.stop.is_set()
    assert second.account.state == "stopped"
    roster.closed(first)
    assert roster.next() is other


def test_done_means_that_nothing_is_open_nothing_waits_and_nothing_comes() -> None:
    roster, (a, b) = filled(1, "a", "b")
    assert not roster.done
    roster.next()
    roster.finish()
    assert not roster.done  # one open, one waiting
    roster.closed(a)
    assert not roster.done  # one waiting
    assert roster.next() is b
    assert not roster.done  # one open
    roster.closed(b)
    assert roster.done
    roster.closed(b)  # said twice, it does no harm
    assert roster.done


def test_an_empty_roster_is_done_only_when_it_is_finished() -> None:
    roster, _ = filled(None)
    assert not roster.done
    roster.finish()
    assert roster.done
