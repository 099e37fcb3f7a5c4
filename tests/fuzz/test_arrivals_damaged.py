# SPDX-License-Identifier: Apache-2.0
"""Damaged recordings of arrivals: a refusal of one line, or a replay whose accounts balance. ``FUZZ=100`` damages a
hundred times as many."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError, UsageError
from pipeline.replaying import ArrivalsReplay, ReplayOptions
from pipeline.testing import FakeDetector, ListSink
from tests.arrivals import busy, record
from tests.daemons import no_network
from tests.media import Media, media

__all__ = ["media", "no_network"]

TIMES = int(os.environ.get("FUZZ", "1"))


@pytest.fixture(scope="module")
def short(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of a few frames, to be damaged many times."""
    folder = tmp_path_factory.mktemp("short") / "rec"
    stream = {"name": "clip", "source": str(media.clip("mkv", count=10, texture=True)), "pace": "realtime"}
    record(folder, [stream], detector=busy(0.001))
    return folder


@settings(max_examples=40 * TIMES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_damaged_ends_in_a_report_or_a_refusal(
    short: Path, no_network: FakeDetector, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = shutil.copytree(short, tmp_path_factory.mktemp("damaged") / "rec")
    victim = data.draw(st.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file())))
    whole = bytearray(victim.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    victim.write_bytes(whole[: data.draw(st.integers(len(whole) // 2, len(whole)))])
    try:
        replay = ArrivalsReplay(folder, "virtual", ReplayOptions(sources=()), [ListSink()])
    except (UsageError, ConfigError):
        return
    replay.start()
    assert replay.wait(0.0)
    assert replay.ledger.unbalanced() == {}
    assert all(account.closed for account in replay.ledger.streams.values())
