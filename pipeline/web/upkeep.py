# SPDX-License-Identifier: Apache-2.0
"""While somebody looks, distributions and answers are kept up: who asks next finds them made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any, Final

from pipeline.timing import now_ns
from pipeline.web.board import Board
from pipeline.web.fresh import LOOKING_S, Fresh

EVERY_S: Final = 2.0
"""Less than :data:`pipeline.ledger.ledger.KEPT_UP_NS` by what a loaded machine may take longer."""


class Upkeep:
    """Takes apart what streams left behind and has the answers made that may be asked for, every :data:`EVERY_S`
    seconds, as long as somebody asked within :data:`LOOKING_S`; nothing is done for nobody. For the server's loop only.
    """

    def __init__(self, board: Board, executor: Executor | None, answers: Callable[[], Iterable[Fresh[Any]]]) -> None:
        """``answers``: those that are to be kept, all that there are at the time."""
        self._board = board
        self._executor = executor
        self._answers = answers
        self._asked_s: float | None = None

    def asked(self) -> None:
        """Somebody wants to know figures."""
        self._asked_s = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(EVERY_S)
            ledger = self._board.ledger
            if ledger is None or self._asked_s is None or loop.time() - self._asked_s >= LOOKING_S:
                continue
            await loop.run_in_executor(self._executor, ledger.keep_up, now_ns())
            for answer in self._answers():
                answer.keep()
