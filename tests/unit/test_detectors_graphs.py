# SPDX-License-Identifier: Apache-2.0
"""Recordings of CUDA graphs by several threads, with doubles; tests/unit/test_detectors_cuda.py asks a real device."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from pipeline.detectors.loading.graphs import Graphed

WORKERS = 3


class Recordings:
    """In place of :class:`torch.cuda.graph`: notes how many there are at the same time, and gives others a chance."""

    def __init__(self) -> None:
        self.under_way = self.most = self.all = 0
        self._changed = threading.Condition()

    def __call__(self, graph: Any, **options: Any) -> Recordings:
        assert options["capture_error_mode"] == "thread_local"
        return self

    def __enter__(self) -> None:
        with self._changed:
            self.all += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most > 1, 0.1)

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self.under_way -= 1


class Graph:
    """In place of :class:`torch.cuda.CUDAGraph`."""

    def replay(self) -> None:
        """The outputs are what they were."""


def test_workers_record_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are made ready at the same time."""
    recordings = Recordings()
    monkeypatch.setattr(torch.cuda, "graph", recordings)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    graphed, ready = Graphed(lambda given: given + 1), threading.Barrier(WORKERS)

    def work(number: int) -> float:
        given = torch.full((2,), float(number))
        ready.wait(10)
        return float(graphed(given)[0])

    with ThreadPoolExecutor(WORKERS) as pool:
        assert list(pool.map(work, range(WORKERS))) == [1.0, 2.0, 3.0]
    assert (recordings.all, recordings.most) == (WORKERS, 1)
