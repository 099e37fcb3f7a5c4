# SPDX-License-Identifier: Apache-2.0
"""A run that is looked at costs its frames no more than it does in a daemon."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pipeline.bench.trial import Trial
from pipeline.ledger.ledger import MUCH
from tests.journeys import World


def test_whoever_waits_takes_traces_apart() -> None:
    world = World("gate")
    times = world.ledger.streams["gate"].times
    world.as_usual("gate", MUCH)
    assert times.left == MUCH
    pipeline: Any = SimpleNamespace(
        ledger=world.ledger, join=lambda timeout_s: False, check_model=lambda timeout_s: None
    )
    Trial(pipeline, 30.0).go(0.001)
    assert (times.left, times.frames) == (0, MUCH)
