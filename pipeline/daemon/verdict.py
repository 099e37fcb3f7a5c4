# SPDX-License-Identifier: Apache-2.0
"""How a run of the daemon ended, by its accounts."""

from __future__ import annotations

import logging

from pipeline.figures import count
from pipeline.ledger import Ledger, SinkLedger

log = logging.getLogger("pipeline")


def served_out(ledger: Ledger) -> bool:
    """Every frame that was decoded is accounted for, and every sink is done with what was meant for it."""
    return not ledger.unbalanced() and all(sink.served for sink in ledger.sinks.values())


def exit_code(ledger: Ledger, *, refused: bool, asked: bool) -> int:
    """The exit code of a run that came to its end: 0, 1 where results were lost or nothing ran, 3 where some failed.

    Args:
        ledger: of the run.
        refused: a stream's entry was faulty.
        asked: somebody stopped it, which is no fault of any stream.
    """
    lost = [sink for sink in ledger.sinks.values() if sink.lost_data]
    for sink in lost:
        log.error("sink %s lost %s", sink.name, _losses(sink))
    if asked:
        return 0
    states = [account.state for account in ledger.streams.values()]
    if lost or all(state == "failed" for state in states):
        return 1
    return 3 if refused or any(state in ("failed", "truncated") for state in states) else 0


def _losses(sink: SinkLedger) -> str:
    reasons = ", ".join(f"{reason.replace('_', ' ')} {number:,}" for reason, number in sink.lost.items())
    told = [f"{count(sum(sink.lost.values()), 'result')} ({reasons})"] if reasons else []
    told += [count(sink.events_lost, "event")] if sink.events_lost else []
    return " and ".join(told) or f"data: {sink.error}"
