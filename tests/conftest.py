# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a cache folder of their own, and accounts that balance, whatever the test was about."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Before any test, for child processes too."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(autouse=True)
def accounts_balance(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test is about: the accounts of every run that came to its end in this process balance."""
    flow = sys.modules.get("pipeline.flow")
    if flow is None:  # nothing could be run in this process
        yield
        return
    ledgers: list[Any] = []
    settle = flow.Pipeline._settle

    def noted(pipeline: Any) -> None:
        ledgers.append(pipeline.ledger)
        settle(pipeline)

    monkeypatch.setattr(flow.Pipeline, "_settle", noted)
    yield
    assert [ledger.unbalanced() for ledger in ledgers if ledger.unbalanced()] == []
    assert [name for ledger in ledgers for name, sink in ledger.sinks.items() if not sink.served] == []
