# SPDX-License-Identifier: Apache-2.0
"""Lines about what may happen at every frame: one a second of each kind, with the count, in bounded memory."""

from __future__ import annotations

import logging

import pytest

from pipeline.complaints import Complaints
from pipeline.testing import ManualClock

LOG = logging.getLogger("pipeline")


def test_what_goes_on_is_said_ever_less_often(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    complaints = Complaints(LOG, clock)
    for _ in range(600):  # every frame for ten minutes
        complaints.say(logging.WARNING, "gate", "stage", "it failed")
        clock.advance(1_000_000_000)
    assert len(caplog.messages) == 1 + 6 + 8  # after 1, 3, 7, 15, 31, 63 s, then once a minute
    assert caplog.messages[-1].endswith("(and 59 more of this kind)")
    caplog.clear()
    clock.advance(120_000_000_000)
    for _ in range(2):
        complaints.say(logging.WARNING, "gate", "stage", "it failed")
        clock.advance(1_000_000_000)
    assert len(caplog.messages) == 2, "it is news again"


def test_the_same_is_counted_and_said_after_a_second(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    complaints = Complaints(LOG, clock)
    for _ in range(5):
        complaints.say(logging.WARNING, "gate", "stage", "it failed")
    complaints.say(logging.WARNING, "gate", "tracker", "so did that")
    clock.advance(1_000_000_000)
    complaints.say(logging.WARNING, "gate", "stage", "it failed again")
    assert caplog.messages == [
        "gate: it failed",
        "gate: so did that",
        "gate: it failed again (and 4 more of this kind)",
    ]


def test_names_that_come_and_go_are_not_remembered_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(LOG, ManualClock())
    for number in range(3000):
        complaints.say(logging.WARNING, f"stream{number}", "stage", "it failed")
        complaints.say(logging.WARNING, "stream2999", "stage", "it failed")
    assert len(caplog.messages) == 3000 + 2, "forgotten twice on the way, and said anew"
    assert len(complaints._said) <= 1024
