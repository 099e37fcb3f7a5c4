# SPDX-License-Identifier: Apache-2.0
"""The last ten minutes of every stream, in a fixed number of points: what sparklines and current rates are made of."""

from __future__ import annotations

from collections import deque
from typing import Final

from pipeline.ledger import Ledger

STEP_S: Final = 5
POINTS: Final = 120
_RATE_POINTS: Final = 2
"""A rate is the mean over so many steps: frames of one stream come in bursts."""


class History:
    """Results per second of every stream, one point per :data:`STEP_S`. Grows with the streams, not with time."""

    def __init__(self) -> None:
        self._points: dict[str, deque[float]] = {}
        self._last: dict[str, int] = {}
        self._since_ns: dict[str, int] = {}

    def sample(self, ledger: Ledger, now_ns: int) -> None:
        """Take one point of each stream; forget streams that are gone."""
        accounts = {name: account for name, account in list(ledger.streams.items()) if name == account.name}
        for name in [name for name in self._last if name not in accounts]:
            del self._last[name], self._since_ns[name]
            self._points.pop(name, None)
        for name, account in accounts.items():
            count = account.processed
            before = self._last.get(name)
            if before is not None:
                passed_s = (now_ns - self._since_ns[name]) / 1e9
                new = max(0, count - before)  # a stream that was removed and added again counts from 0
                points = self._points.setdefault(name, deque(maxlen=POINTS))
                points.append(round(new / passed_s, 2) if passed_s > 0 else 0.0)
            self._last[name], self._since_ns[name] = count, now_ns

    def fps(self, name: str) -> list[float]:
        """Results per second, oldest first; empty before the second sample."""
        return list(self._points.get(name, ()))

    def rate(self, name: str) -> float | None:
        """Results per second over the last steps, or None before there are any."""
        points = self._points.get(name)
        if not points:
            return None
        newest = [points[-number] for number in range(1, min(len(points), _RATE_POINTS) + 1)]
        return round(sum(newest) / len(newest), 2)
