# SPDX-License-Identifier: Apache-2.0
"""How each stream is, in a line of the log every now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.daemon.notify import Notifier
from pipeline.figures import count
from pipeline.ledger import Ledger, StreamLedger

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
        self._last_count: dict[str, tuple[StreamLedger, int]] = {}  # results in the life that was told of last

    def say(self, ledger: Ledger) -> None:
        """A line for each stream."""
        now = [account for name, account in ledger.streams.items() if name == account.name]  # no earlier lives
        for account in now:
            log.info("%s", self._line(account), extra={"event": True, "stream": account.name})  # of this minute
        names = {account.name for account in now}
        self._last_count = {name: last for name, last in self._last_count.items() if name in names}
        live, results = sum(one.state == "live" for one in now), sum(one.processed for one in now)
        self._notify.status(f"{live} of {count(len(now), 'stream')} live, {count(results, 'result')}")

    def _line(self, account: StreamLedger) -> str:
        life, before = self._last_count.get(account.name, (account, 0))
        new = account.processed - (before if life is account else 0)
        self._last_count[account.name] = account, account.processed
        parts = [f"{account.name}: {account.state}", count(new, "result"), f"{account.processed:,} in all"]
        if account.last_result_ns:
            parts.append(f"last {(self._now() - account.last_result_ns) / 1e9:.1f} s ago")
        latency = account.latency().end_to_end.histogram
        if latency.count:
            p50, p99 = latency.percentiles((50, 99))
            parts.append(f"latency p50 {p50 / 1e6:.0f} ms, p99 {p99 / 1e6:.0f} ms")
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(account.dropped.items()))
        parts += [f"dropped {dropped}"] if dropped else []
        parts += [f"{account.counters.skipped} skipped"] if account.counters.skipped else []
        parts += [count(account.counters.reconnects, "reconnect")] if account.counters.reconnects else []
        parts += [account.error] if account.error else []
        return ", ".join(parts)
