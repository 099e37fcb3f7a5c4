# SPDX-License-Identifier: Apache-2.0
"""Log lines about what may happen at every frame: the first at once, then ever fewer, with the count."""

from __future__ import annotations

import logging
import threading

from pipeline.timing import SYSTEM, Clock

_FIRST_PAUSE_NS = 1_000_000_000
_LONGEST_PAUSE_NS = 60_000_000_000
_MOST = 1024
"""Kinds that are told apart; of more, the first that was said is forgotten."""


class Complaints:
    """Says the same kind of thing after a second, after two more, four, and so on up to a minute. Threads may share it.

    What has not happened for two minutes is news again.
    """

    def __init__(self, log: logging.Logger, clock: Clock = SYSTEM) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[tuple[str, str], list[int]] = {}  # (stream, kind) -> [when last, unsaid since, pause]

    def say(self, level: int, stream: str, kind: str, text: str) -> None:
        """Log ``stream: text``, or count it; ``kind`` tells what counts as the same thing."""
        now_ns = self._clock.now_ns()
        with self._lock:
            if len(self._said) >= _MOST and (stream, kind) not in self._said:
                del self._said[next(iter(self._said))]
            said = self._said.setdefault((stream, kind), [now_ns - _LONGEST_PAUSE_NS, 0, 0])
            when_ns, unsaid, pause_ns = said
            if now_ns - when_ns < pause_ns:
                said[1] += 1
                return
            quiet = now_ns - when_ns >= 2 * _LONGEST_PAUSE_NS
            said[:] = now_ns, 0, _FIRST_PAUSE_NS if quiet or not pause_ns else min(2 * pause_ns, _LONGEST_PAUSE_NS)
        more = f" (and {unsaid} more of this kind)" if unsaid else ""
        self._log.log(level, "%s: %s%s", stream, text, more, extra={"stream": stream})
