# SPDX-License-Identifier: Apache-2.0
"""While somebody looks, the distributions are kept up: an answer has little left to take apart."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

from pipeline.timing import now_ns
from pipeline.web.board import Board

EVERY_S: Final = 2.0
"""Less than :data:`pipeline.ledger.ledger.KEPT_UP_NS` by what a loaded machine may take longer."""
LOOKING_S: Final = 60.0
"""Who asked so lately may ask again."""


class Upkeep:
    """Takes apart what streams left behind, every :data:`EVERY_S` seconds, as long as somebody asked within
    :data:`LOOKING_S`; nothing is done for nobody. For the server's loop only."""

    def __init__(self, board: Board, executor: Executor | None) -> None:
        self._board = board
        self._executor = executor
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
            if ledger is not None and self._asked_s is not None and loop.time() - self._asked_s < LOOKING_S:
                await loop.run_in_executor(self._executor, ledger.keep_up, now_ns())
