# SPDX-License-Identifier: Apache-2.0
"""Earlier lives of streams are added up when there are many; no frame is lost from the books by that."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.ledger import Ledger, StreamLedger
from pipeline.ledger.folding import KEPT, MOST_NAMES, OTHERS
from pipeline.timing import Mark, new_trace

MS = 1_000_000


def a_life(ledger: Ledger, name: str, frames: int, *, settled: bool = True) -> StreamLedger:
    """A stream that had some frames, lost one, and ended."""
    account = StreamLedger(name, live=True)
    ledger.add(account)
    account.opened(account.info, account.counters, 1000 * MS)
    account.counters.decode_errors, account.counters.reconnects = 1, 2
    account.counters.reconnects_by_cause["eof"] = 2
    for number in range(frames):
        trace = new_trace()
        for mark in Mark:
            trace[mark] = (1000 + 20 * number + mark) * MS
        account.arrived(trace[Mark.READ], number / 50, 0, corrupt=number == 0)
        if number == 0:
            account.lost("overflow", trace)
        else:
            account.published(trace)
            account.finished(trace)
    account.ended(None, at_limit=False, asked=True)
    account.closed = True
    if settled:
        ledger.settle(account)
    return account


def sums(ledger: Ledger) -> dict[str, Any]:
    whole = ledger.as_dict(2000 * MS)
    streams = whole["streams"].values()
    keys = ("decoded", "processed", "corrupt", "decode_errors")
    return {
        **{key: sum(stream["frames"][key] for stream in streams) for key in keys},
        "overflow": sum(stream["frames"]["dropped"].get("overflow", 0) for stream in streams),
        "reconnects": sum(stream["reconnects"] for stream in streams),
        "lives": sum(stream.get("lives", 1) for stream in streams),
        "total": whole["total"]["end_to_end"]["count"],
        "frames": whole["frames"],
    }


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.begin(1000 * MS)
    return ledger


def test_of_many_lives_the_newest_stay_and_the_sums_are_exact(ledger: Ledger) -> None:
    lives = 50
    for number in range(lives):
        a_life(ledger, "gate", frames=number + 2)
    decoded = sum(number + 2 for number in range(lives))
    assert sums(ledger) == {
        "decoded": decoded, "processed": decoded - lives, "corrupt": lives, "decode_errors": lives, "overflow": lives,
        "reconnects": 2 * lives, "lives": lives, "total": decoded - lives, "frames": decoded - lives,
    }  # fmt: skip
    assert ledger.unbalanced() == {}
    keys = list(ledger.streams)
    assert keys == ["gate~1", *(f"gate~{lives - KEPT + n}" for n in range(1, KEPT)), "gate"]
    first = ledger.as_dict(2000 * MS)["streams"]["gate~1"]
    assert (first["lives"], first["state"], first["end_to_end"], first["stages"]) == (lives - KEPT, "stopped", None, {})
    assert ledger.streams["gate~1"].counters.reconnects_by_cause == {"eof": 2 * (lives - KEPT)}
    assert ledger.streams["gate~49"].decoded == 50, "the newest are as they were"


def test_what_is_not_over_is_left_alone(ledger: Ledger) -> None:
    under_way = a_life(ledger, "gate", frames=5, settled=False)
    for _ in range(2 * KEPT):
        a_life(ledger, "gate", frames=3)
    assert ledger.streams["gate~1"] is under_way, "its last frames have not left the last sink"
    before = sums(ledger)
    ledger.settle(under_way)
    a_life(ledger, "gate", frames=3)
    assert len(ledger.streams) == KEPT + 1
    assert sums(ledger)["decoded"] == before["decoded"] + 3
    assert sums(ledger)["total"] == before["total"] + 2, "its four results were counted before"


def test_names_that_never_come_back_are_one_account_in_the_end(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_NAMES == 1000
    most = 100  # the rule is the same, and made ten times as soon
    for module in ("folding", "ledger"):
        monkeypatch.setattr(f"pipeline.ledger.{module}.MOST_NAMES", most)
    names = most + 20
    for number in range(names):
        a_life(ledger, f"camera-{number}", frames=2)
        ledger.retire(f"camera-{number}")
    assert len(ledger.streams) == most + 1
    assert ledger.streams[OTHERS].lives == 20
    assert ledger.streams[OTHERS].over
    assert "camera-19~1" not in ledger.streams
    assert "camera-20~1" in ledger.streams
    told = sums(ledger)
    assert (told["decoded"], told["lives"], told["total"]) == (2 * names, names, names)
    assert ledger.unbalanced() == {}


def test_a_reader_of_the_old_accounts_is_not_disturbed(ledger: Ledger) -> None:
    for _ in range(KEPT + 1):
        a_life(ledger, "gate", frames=4)
    old = ledger.streams
    decoded = {key: account.decoded for key, account in old.items()}
    a_life(ledger, "gate", frames=4)
    assert {key: old[key].decoded for key in decoded if key in old} == {
        key: count for key, count in decoded.items() if key in old
    }
    assert all(account.lives == 1 for account in old.values())
