# SPDX-License-Identifier: Apache-2.0
"""Log lines about what may happen at every frame: the first at once, then one a second with the count."""

from __future__ import annotations

import logging
import threading

from pipeline.timing import SYSTEM, Clock

_EVERY_NS = 1_000_000_000
_MOST = 1024
"""Kinds that are told apart; of more, the first that was said is forgotten."""


class Complaints:
    """Says the same kind of thing at most once a second. Threads may share one."""

    def __init__(self, log: logging.Logger, clock: Clock = SYSTEM) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[tuple[str, str], list[int]] = {}  # (subject, kind) -> [when last, unsaid since]

    def say(self, level: int, subject: str, kind: str, text: str) -> None:
        """Log ``subject: text``, or count it; ``kind`` tells what counts as the same thing."""
        now_ns = self._clock.now_ns()
        with self._lock:
            if len(self._said) >= _MOST and (subject, kind) not in self._said:
                del self._said[next(iter(self._said))]
            last = self._said.setdefault((subject, kind), [now_ns - _EVERY_NS, 0])
            if now_ns - last[0] < _EVERY_NS:
                last[1] += 1
                return
            unsaid, last[0], last[1] = last[1], now_ns, 0
        more = f" (and {unsaid} more of this kind)" if unsaid else ""
        self._log.log(level, "%s: %s%s", subject, text, more)
