# SPDX-License-Identifier: Apache-2.0
"""What a daemon holds does not grow with what was done to it: its own memory, between two moments of the same rest."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.daemons import JSONL, config
from tests.models import Cells, save
from tests.processes import Running, awaited, daemon

__all__ = ["daemon"]

PATTERN = "pattern:?size=64x48&fps=10"
RELOADS, ROUNDS = 50, 4
MOST_MB_PER_100 = 4.0
"""By which it may grow per hundred reloads: what malloc cannot give back levels off at some MB, see
design/breaking.md. One picture of a camera, or one account, for each life of a stream would be more."""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_hundred_reloads(daemon: Callable[..., Running], tmp_path: Path) -> None:
    """Each changes one stream and adds or removes another; two are never touched."""
    model = save(Cells(), tmp_path / "cells.pt")

    def write(number: int) -> set[str]:
        """The file as it is after so many reloads; its streams."""
        rates = {"steady0": 10, "steady1": 10, "changing": 4 + number % 2, **({"coming": 10} if number % 2 else {})}
        streams = [f"name: {name}, source: '{PATTERN}', fps: {rate}" for name, rate in rates.items()]
        path = config(tmp_path, model, streams, [JSONL])
        path.write_text(path.read_text() + "server: {listen: '127.0.0.1:0'}\n")
        return set(rates)

    def live(names: set[str]) -> bool:
        return {name for name, told in run.streams().items() if told["state"] == "live"} == names

    write(0)
    run = daemon(tmp_path / "streams.yaml")
    run.until("detector ready")
    held = []
    for round_ in range(ROUNDS):
        for number in range(1, RELOADS + 1):
            names = write(number)
            run.send(signal.SIGHUP)
            run.until("reloaded: .* 1 changed, .* 2 untouched")
            awaited(partial(live, names), "all live")
        held.append((run.resident_bytes() / 1e6, run.threads().total(), run.descriptors().total()))
        print(f"after {(round_ + 1) * RELOADS} reloads: MB, threads, descriptors {held[-1]}")
    grown_mb = (held[-1][0] - held[1][0]) / ((ROUNDS - 2) * RELOADS) * 100
    assert grown_mb < MOST_MB_PER_100, held
    assert held[-1][1:] == held[0][1:], held
    code, log = run.end()
    assert code == 0, log
