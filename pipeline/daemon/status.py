# SPDX-License-Identifier: Apache-2.0
"""How the streams are, in the log, every now and then: a line each while they are few, else all of them in two."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from pipeline.daemon.notify import Notifier
from pipeline.events import state_in_words
from pipeline.figures import count, listed
from pipeline.ledger import Latency, Ledger, StreamLedger

log = logging.getLogger("pipeline")

FEW: Final = 4
"""Up to this many streams have a line each: 50 with a line a minute would be 72,000 lines a day."""


class _Told(NamedTuple):
    """What was known of a stream when it was told of last."""

    results: int
    dropped: Counter[str]


_NOTHING: Final = _Told(0, Counter())


class Status:
    """Says what is new since it was said last.

    Args:
        notify: is told in short, too.
        now: monotonic nanoseconds.
    """

    def __init__(self, notify: Notifier, now: Callable[[], int]) -> None:
        self._notify = notify
        self._now = now
        self._told: dict[StreamLedger, _Told] = {}  # of each life

    def say(self, ledger: Ledger) -> None:
        """Tell of all streams."""
        now = [account for name, account in ledger.streams.items() if name == account.name]  # no earlier lives
        told = {account: _Told(account.processed, Counter(account.dropped)) for account in now}
        if len(now) <= FEW:
            for account in now:
                line = self._line(account, told[account])
                log.info("%s", line, extra={"event": True, "stream": account.name})  # of this minute
        else:
            for line in self._lines(now, told):
                log.info("%s", line, extra={"event": True})
        self._told = told
        live, results = sum(one.state == "live" for one in now), sum(one.results for one in told.values())
        self._notify.status(f"{live} of {count(len(now), 'stream')} live, {count(results, 'result')}")

    def _before(self, account: StreamLedger) -> _Told:
        return self._told.get(account, _NOTHING)

    def _line(self, account: StreamLedger, now: _Told) -> str:
        """One stream by itself."""
        new = now.results - self._before(account).results
        parts = [f"{account.name}: {state_in_words(account.state)}", count(new, "result"), f"{now.results:,} in all"]
        if account.last_result_ns:
            parts.append(f"last {(self._now() - account.last_result_ns) / 1e9:.1f} s ago")
        if (latency := account.times.ask(_latency_ms)) is not None:
            parts.append(f"latency p50 {latency[0]:.0f} ms, p99 {latency[1]:.0f} ms")
        parts += [f"dropped {_reasons(now.dropped)}"] if now.dropped else []
        parts += [f"{account.counters.skipped} skipped"] if account.counters.skipped else []
        parts += [count(account.counters.reconnects, "reconnect")] if account.counters.reconnects else []
        parts += [account.error] if account.error else []
        return ", ".join(parts)

    def _lines(self, accounts: Sequence[StreamLedger], told: Mapping[StreamLedger, _Told]) -> Iterator[str]:
        """Many streams together: what they did since the last time, and who is away."""
        live = [account for account in accounts if account.state == "live"]
        new = sum(now.results - self._before(account).results for account, now in told.items())
        parts = [f"{len(live)} of {len(accounts)} streams live", count(new, "result")]
        dropped: Counter[str] = Counter()
        for account, now in told.items():
            dropped += now.dropped - self._before(account).dropped
        parts += [f"dropped {_reasons(dropped)}"] if dropped else []
        slowest = max(
            ((latency[1], account.name) for account in live if (latency := account.times.ask(_latency_ms))),
            default=None,
        )
        parts += [] if slowest is None else [f"latency p99 at most {slowest[0]:.0f} ms ({slowest[1]})"]
        yield ", ".join(parts)
        away = [
            f"{account.name} ({state_in_words(account.state)}{f': {account.error}' if account.error else ''})"
            for account in accounts
            if account.state not in ("live", "stopped", "finished")
        ]
        if away:
            yield f"not live: {listed(away)}"


def _reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {reason}" for reason, number in sorted(dropped.items()))


def _latency_ms(so_far: Latency) -> tuple[float, float] | None:
    """p50 and p99; None before the first result."""
    end_to_end = so_far.end_to_end.histogram
    if not end_to_end.count:
        return None
    p50, p99 = end_to_end.percentiles((50, 99))
    return p50 / 1e6, p99 / 1e6
