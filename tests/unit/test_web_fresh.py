# SPDX-License-Identifier: Apache-2.0
"""Answers are made once for many; who asks often never waits for the next one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.web.fresh import LOOKING_S, Fresh


class Maker:
    """Counts; holds up and fails on request."""

    def __init__(self) -> None:
        self.made = 0
        self.may = threading.Event()
        self.may.set()
        self.fails = False

    def __call__(self) -> int:
        assert self.may.wait(20)
        if self.fails:
            raise OSError("out of order")
        self.made += 1
        return self.made


def played(story: Callable[[Maker, Fresh[int], Callable[[float], None]], Awaitable[None]]) -> None:
    """``story`` in a loop whose time stands still between the steps that it is given."""
    at_s = 100.0

    def advance(seconds: float) -> None:
        nonlocal at_s
        at_s += seconds

    async def main() -> None:
        asyncio.get_running_loop().time = lambda: at_s  # type: ignore[method-assign]
        maker = Maker()
        await story(maker, Fresh(maker, executor, 1.0), advance)

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(main())


async def until_made(fresh: Fresh[int]) -> None:
    while fresh._making is not None:
        await asyncio.sleep(0)


def test_many_who_ask_at_once_cost_one() -> None:
    async def story(maker: Maker, fresh: Fresh[int], advance: Callable[[float], None]) -> None:
        assert await asyncio.gather(*(fresh.get() for _ in range(50))) == [1] * 50
        advance(0.9)
        assert await fresh.get() == 1
        advance(5)
        assert await fresh.get() == 2, "too old to be told"
        assert maker.made == 2

    played(story)


def test_who_asks_often_is_answered_while_the_next_one_is_made() -> None:
    async def story(maker: Maker, fresh: Fresh[int], advance: Callable[[float], None]) -> None:
        assert await fresh.get() == 1
        maker.may.clear()
        advance(1.5)
        assert [await fresh.get() for _ in range(20)] == [1] * 20
        maker.may.set()
        await until_made(fresh)
        assert await fresh.get() == 2
        assert maker.made == 2

    played(story)


async def turn() -> None:
    """Let what is due happen."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_asks_in_a_rhythm_finds_the_answer_made_shortly_before() -> None:
    async def story(maker: Maker, fresh: Fresh[int], advance: Callable[[float], None]) -> None:
        for number, pause_s in enumerate((0.0, 15.0, 15.1), 1):
            advance(pause_s)
            assert await fresh.get() == number, "it is no rhythm yet"
        advance(14.5)
        await turn()
        await until_made(fresh)
        assert maker.made == 3, "not so early"
        advance(0.2)
        await turn()
        await until_made(fresh)
        assert maker.made == 4
        maker.may.clear()  # who is expected waits for nobody
        advance(0.3)
        assert await fresh.get() == 4
        maker.may.set()
        advance(15)
        await turn()
        await until_made(fresh)
        advance(1000)
        await turn()
        await until_made(fresh)
        assert maker.made == 5, "one for a client that did not come, and no more"

    played(story)


def test_nothing_is_made_ahead_for_who_keeps_no_rhythm() -> None:
    async def story(maker: Maker, fresh: Fresh[int], advance: Callable[[float], None]) -> None:
        for number, pause_s in enumerate((0.0, 4.0, 9.0, 5.0, 30.0, 3.0), 1):
            advance(pause_s)
            await turn()
            assert await fresh.get() == number
        advance(1000)
        await turn()
        assert maker.made == 6

    played(story)


def test_for_who_asks_at_odd_times_answers_are_kept_for_a_minute() -> None:
    async def story(maker: Maker, fresh: Fresh[int], advance: Callable[[float], None]) -> None:
        fresh.keep()
        await turn()
        assert maker.made == 0, "nobody ever asked"
        assert await fresh.get() == 1
        for number in range(2, 31):
            advance(2)
            fresh.keep()
            await until_made(fresh)
            assert maker.made == number
        maker.may.clear()
        assert await fresh.get() == 30, "nobody waits"
        advance(2)
        fresh.keep()
        advance(0.5)
        assert await fresh.get() == 30, "nor while the next one is made"
        maker.may.set()
        await until_made(fresh)
        advance(LOOKING_S + 1)
        fresh.keep()
        await turn()
        assert maker.made == 31, "that was too long ago"
        assert await fresh.get() == 32

    played(story)


def test_who_is_expected_needs_nothing_kept() -> None:
    async def story(maker: Maker, fresh: Fresh[int], advance: Callable[[float], None]) -> None:
        for pause_s in (0.0, 15.0, 15.0):
            advance(pause_s)
            await fresh.get()
        for _ in range(5):
            advance(2)
            fresh.keep()
            await turn()
        assert maker.made == 3

    played(story)


def test_a_fault_is_told_to_those_who_wait_and_tried_again() -> None:
    async def story(maker: Maker, fresh: Fresh[int], advance: Callable[[float], None]) -> None:
        maker.fails = True
        told = await asyncio.gather(fresh.get(), fresh.get(), return_exceptions=True)
        assert [type(each) for each in told] == [OSError, OSError]
        maker.fails = False
        assert await fresh.get() == 1
        advance(1.5)
        maker.fails = True
        assert await fresh.get() == 1, "nobody waited for the one that failed"
        await until_made(fresh)
        advance(2)
        with pytest.raises(OSError, match="out of order"):
            await fresh.get()

    played(story)


def test_who_hangs_up_takes_nothing_from_the_others() -> None:
    async def story(maker: Maker, fresh: Fresh[int], advance: Callable[[float], None]) -> None:
        maker.may.clear()
        first, second = (asyncio.create_task(fresh.get()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        maker.may.set()
        assert await second == 1

    played(story)
