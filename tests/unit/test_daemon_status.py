# SPDX-License-Identifier: Apache-2.0
"""The daemon's words about all of many streams."""

from __future__ import annotations

import logging

import pytest

from pipeline.daemon.notify import Notifier
from pipeline.daemon.status import FEW, Status
from pipeline.testing import ManualClock
from tests.ledgers import a_run


def test_who_ended_as_he_should_is_not_away(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    ledger = a_run(*(f"s{number}" for number in range(FEW + 3)))
    for account in ledger.streams.values():
        account.state = "stopped"
    ledger.streams["s1"].state = "finished"
    with caplog.at_level(logging.INFO, "pipeline"):
        Status(Notifier(clock.now_ns), clock.now_ns).say(ledger)
    (line,) = caplog.messages
    assert line.startswith("0 of 7 streams live, 35 results")
    caplog.clear()
    ledger.streams["s2"].failed("no such file")
    with caplog.at_level(logging.INFO, "pipeline"):
        Status(Notifier(clock.now_ns), clock.now_ns).say(ledger)
    assert caplog.messages[1] == "not live: s2 (failed: no such file)"
