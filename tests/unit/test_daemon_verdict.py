# SPDX-License-Identifier: Apache-2.0
"""What a run says at its end of sinks that lost something."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline.daemon.verdict import exit_code
from pipeline.ledger import Ledger, SinkLedger


@pytest.mark.parametrize(
    ("sink", "told"),
    [
        (SinkLedger("jsonl-0", lost=Counter(write_error=705)), "sink jsonl-0 lost 705 results (write error 705)"),
        (
            SinkLedger("csv", lost=Counter(overflow=1_200, shutdown=1), events_lost=1),
            "sink csv lost 1,201 results (overflow 1,200, shutdown 1) and 1 event",
        ),
        (SinkLedger("video", faults=1, error="the disk is full"), "sink video lost data: the disk is full"),
    ],
)
def test_losses_are_told_in_words(sink: SinkLedger, told: str, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger()
    ledger.sinks[sink.name] = sink
    assert exit_code(ledger, refused=False, asked=False) == 1
    assert caplog.messages == [told]
