# SPDX-License-Identifier: Apache-2.0
"""A model that never gets ready: the daemon leaves after a while, for its supervisor to start it anew."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from pipeline.daemon import Daemon
from pipeline.daemon.loading import loading_limit_s


class Hurrying:
    """A clock on which 50 s pass between two looks."""

    def __init__(self) -> None:
        self._ns = 0

    def now_ns(self) -> int:
        """The next time."""
        self._ns += 50_000_000_000
        return self._ns

    def wall_ns(self) -> int:
        """Nobody asks."""
        return 0


@pytest.mark.parametrize(("timeout_s", "limit_s"), [(1, 300), (60, 600)])
def test_a_model_that_is_never_ready_ends_the_program(
    timeout_s: int, limit_s: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "streams.yaml"
    config.write_text(
        f"model: {{path: builtin:people, timeout_s: {timeout_s}}}\n"
        "streams: [{name: a, source: 'pattern://?frames=1'}]\n"
        f"sinks: [{{type: jsonl, path: '{tmp_path}/{{stream}}.jsonl'}}]\n"
    )
    over = threading.Event()
    monkeypatch.setattr(Daemon, "_begin", lambda daemon, loaded: over.wait(60.0))
    daemon = Daemon(config, clock=Hurrying())
    try:
        with caplog.at_level(logging.WARNING):
            assert daemon.run() == 1
    finally:
        over.set()
    assert not daemon.ready
    assert any("still being loaded" in text for text in caplog.messages)
    assert f"ready within {limit_s} s (model.timeout_s is {timeout_s})" in caplog.messages[-1]
    assert "so that a supervisor can start anew" in caplog.messages[-1]


def test_loading_may_take_longer_than_a_batch() -> None:
    assert [loading_limit_s(timeout_s) for timeout_s in (1.0, 30.0, 60.0, 3600.0)] == [300.0, 300.0, 600.0, 36000.0]
