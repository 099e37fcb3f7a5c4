# SPDX-License-Identifier: Apache-2.0
"""How each stream is, in a line of the log every now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.daemon.notify import Notifier
from pipeline.events import state_in_words
from pipeline.figures import count
from pipeline.ledger import Latency, Ledger, StreamLedger

log = logging.getLogger("pipeline")


class Status:
    """Says what is new since it was said last.

    Args:
        notify: is told in short, too.
        now: monotonic nanoseconds.
    """

    def __init__(self, notify: Notifier, now: Callable[[], int]) -> None:
        self._notify = notify
        self._now = now
        self._told: dict[StreamLedger, int] = {}  # results of each life when it was told of last

    def say(self, ledger: Ledger) -> None:
        """A line for each stream."""
        now = [account for name, account in ledger.streams.items() if name == account.name]  # no earlier lives
        for account in now:
            log.info("%s", self._line(account), extra={"event": True, "stream": account.name})  # of this minute
        self._told = {account: self._told[account] for account in now}
        live, results = sum(one.state == "live" for one in now), sum(one.processed for one in now)
        self._notify.status(f"{live} of {count(len(now), 'stream')} live, {count(results, 'result')}")

    def _line(self, account: StreamLedger) -> str:
        so_far = account.processed
        new, self._told[account] = so_far - self._told.get(account, 0), so_far
        parts = [f"{account.name}: {state_in_words(account.state)}", count(new, "result"), f"{so_far:,} in all"]
        if account.last_result_ns:
            parts.append(f"last {(self._now() - account.last_result_ns) / 1e9:.1f} s ago")
        if latency := account.times.ask(_latency):
            parts.append(latency)
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(account.dropped.items()))
        parts += [f"dropped {dropped}"] if dropped else []
        parts += [f"{account.counters.skipped} skipped"] if account.counters.skipped else []
        parts += [count(account.counters.reconnects, "reconnect")] if account.counters.reconnects else []
        parts += [account.error] if account.error else []
        return ", ".join(parts)


def _latency(so_far: Latency) -> str:
    """Empty before the first result."""
    end_to_end = so_far.end_to_end.histogram
    if not end_to_end.count:
        return ""
    p50, p99 = end_to_end.percentiles((50, 99))
    return f"latency p50 {p50 / 1e6:.0f} ms, p99 {p99 / 1e6:.0f} ms"
