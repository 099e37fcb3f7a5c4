# SPDX-License-Identifier: Apache-2.0
"""Distributions are kept up while somebody asks, and for nobody else; what costs nothing is always as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from pipeline.ledger import Ledger, StreamLedger
from pipeline.ledger.ledger import KEPT_UP_NS
from pipeline.timing import Mark, new_trace, now_ns
from pipeline.web import upkeep
from pipeline.web.board import Board
from pipeline.web.describe import overview
from pipeline.web.fresh import Fresh
from pipeline.web.history import History

MS = 1_000_000
S = 1_000_000_000


class Books:
    """A board that has accounts, and counts how often somebody looks for them."""

    def __init__(self) -> None:
        self.looks = 0
        self.account = StreamLedger("gate", live=True)
        self._ledger = Ledger()
        self._ledger.add(self.account)

    @property
    def ledger(self) -> Ledger:
        self.looks += 1
        return self._ledger

    def finish(self, at_ns: int) -> None:
        trace = new_trace()
        for mark in Mark:
            trace[mark] = at_ns + mark * MS
        self.account.arrived(at_ns, at_ns / 1e9, 0, False)
        self.account.published(trace)
        self.account.finished(trace)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.001)


def test_only_while_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "EVERY_S", 0.001)

    async def story() -> None:
        books = Books()
        made: list[int] = []
        answer = Fresh(lambda: made.append(1), None, 0.0)
        keeper = upkeep.Upkeep(cast(Board, books), None, lambda: [answer])
        task = asyncio.create_task(keeper.run())
        books.finish(now_ns())
        await until(lambda: books.looks >= 5)
        assert books.account.times.frames == 0, "nobody asked"
        keeper.asked()
        await until(lambda: books.account.times.frames == 1)
        books.finish(now_ns())
        await until(lambda: books.account.times.frames == 2)
        assert not made, "nobody asked for this one"
        await answer.get()
        await until(lambda: len(made) >= 3)
        monkeypatch.setattr(upkeep, "LOOKING_S", 0.0)  # that was too long ago
        looks = books.looks
        await until(lambda: books.looks >= looks + 2)  # one round may have been under way
        books.finish(now_ns())
        looks = books.looks
        await until(lambda: books.looks >= looks + 5)
        assert books.account.times.frames == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())


def test_counts_and_ages_are_as_they_are_whatever_is_kept_up() -> None:
    books = Books()
    ledger, history = books.ledger, History()
    books.finish(10 * S)
    ledger.keep_up(11 * S)
    books.finish(12 * S)
    for now, whole in ((11 * S + KEPT_UP_NS, 1), (11 * S + KEPT_UP_NS + 1, 2)):
        told = overview(ledger, {}, {}, history, now)["streams"]["gate"]
        assert told["frames"]["processed"] == 2
        assert told["age_s"] == round((now - 12 * S - Mark.PLAYED * MS) / 1e9, 3)
        assert told["windows"]["60s"]["end_to_end"]["count"] == whole
