# SPDX-License-Identifier: Apache-2.0
"""Frames that were late, and why, in a line of the log: at most one in two seconds."""

from __future__ import annotations

import logging
from typing import Final

from pipeline.ledger import Late, Ledger, StreamLedger
from pipeline.ledger.causes import as_time

log = logging.getLogger("pipeline")

EVERY_NS: Final = 2_000_000_000


class LateNews:
    """Names the worst of the frames that were late since the last look."""

    def __init__(self) -> None:
        self._next_ns = 0
        self._told: dict[StreamLedger, int] = {}  # late frames of each life up to the last look

    def look(self, ledger: Ledger, now_ns: int) -> None:
        """Cheap enough to be called all the time. ``now_ns``: monotonic."""
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + EVERY_NS
        ledger.catch_up(late=True)
        told, self._told = self._told, {}
        late: list[Late] = []
        frames = 0
        for name, account in list(ledger.streams.items()):
            if name != account.name:  # an earlier life
                continue
            so_far = account.times.late.frames
            new = so_far - told.get(account, 0)
            self._told[account] = so_far
            if new:
                frames += new
                late += account.times.newest_late(new)
        if late:
            self._say(max(late, key=lambda one: one.took_ns / one.limit_ns), frames - 1)

    def _say(self, worst: Late, more: int) -> None:
        promised = worst.by == "budget"
        measure = f"its budget is {worst.limit_ns / 1e6:g} ms" if promised else "longer than 99 of 100"
        others = f" (and {more} more late)" if more else ""
        # Of one kind are those of one stream for which the same part is to blame, whatever the numbers.
        log.log(
            logging.WARNING if promised else logging.INFO,
            "%s: frame %d took %s, %s: %s%s",
            worst.stream, worst.frame, as_time(worst.took_ns), measure, worst.reason.verdict, others,
            extra={"same": f"{worst.stream}: late in {worst.part}", "stream": worst.stream},
        )  # fmt: skip
