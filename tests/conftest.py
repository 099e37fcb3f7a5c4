# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a cache folder and secrets of their own, accounts that balance whatever a test is about."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from pipeline import redact
from pipeline.host import footprint

# How long an example takes says more about the machine than about the program.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Half a million objects are made, and nearly all of them stay: looking for garbage meanwhile costs a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


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


@pytest.fixture(autouse=True, scope="session")
def own_heap() -> Iterator[None]:
    """The tests themselves are half a million objects, which the garbage collector need not look through again: each
    daemon has it look through everything once it is warm, and most daemons of the tests run in this process. They are
    given back at the end, or nanobind (in Triton) calls its part of them leaked, see `footprint.keep_for_good`."""
    gc.collect()
    gc.freeze()
    kept = SimpleNamespace(collect=gc.collect, freeze=lambda: None, unfreeze=lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(footprint, "gc", kept)
        yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test made a secret is none for the next: a generated password may be any word."""
    monkeypatch.setattr(redact.scrubbing, "_SCRUBBER", redact.Scrubber())


@pytest.fixture(autouse=True)
def accounts_balance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test is about: the accounts of every run that came to its end in this process balance, and unless a
    loop died those of its sinks. ``@pytest.mark.unbalanced``: this one is about accounts that do not."""
    flow = sys.modules.get("pipeline.flow")
    if flow is None or request.node.get_closest_marker("unbalanced"):
        yield
        return
    ended: list[Any] = []
    settle = flow.Pipeline._settle

    def noted(pipeline: Any) -> None:
        ended.append(pipeline)
        settle(pipeline)

    monkeypatch.setattr(flow.Pipeline, "_settle", noted)
    yield
    assert [run.ledger.unbalanced() for run in ended if run.ledger.unbalanced()] == []
    whole = [run for run in ended if run.failure is None]
    assert [name for run in whole for name, sink in run.ledger.sinks.items() if not sink.served] == []


@pytest.fixture
def one_thread() -> Iterator[None]:
    """OpenCV and torch compute in the test's own thread: on a busy machine more of them wait for each other."""
    import cv2

    torch = sys.modules.get("torch")
    of_opencv, of_torch = cv2.getNumThreads(), 0 if torch is None else torch.get_num_threads()
    cv2.setNumThreads(1)
    if torch is not None:
        torch.set_num_threads(1)
    yield
    cv2.setNumThreads(of_opencv)
    if torch is not None:
        torch.set_num_threads(of_torch)
