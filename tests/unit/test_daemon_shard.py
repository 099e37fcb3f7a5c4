# SPDX-License-Identifier: Apache-2.0
"""Every stream belongs to one part, and few of them move when a part is added."""

from __future__ import annotations

import logging

import pytest

from pipeline.config import parse_config
from pipeline.daemon.shard import WHOLE, Shard
from pipeline.errors import UsageError

NAMES = [f"camera-{number}" for number in range(400)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_stream_has_one_daemon(count: int) -> None:
    takers = {name: [index for index in range(count) if Shard(index, count).takes(name)] for name in NAMES}
    assert all(len(found) == 1 for found in takers.values())
    sizes = [sum(found == [index] for found in takers.values()) for index in range(count)]
    assert min(sizes) > 0.7 * len(NAMES) / count, "about equal parts"


def test_one_daemon_more_takes_streams_and_moves_no_other() -> None:
    moved = 0
    for name in NAMES:
        before, after = (next(i for i in range(count) if Shard(i, count).takes(name)) for count in (4, 5))
        moved += after != before
        assert after in (before, 4)
    assert 0.1 * len(NAMES) < moved < 0.3 * len(NAMES)


def test_the_assignment_is_the_same_for_ever() -> None:
    """Of all versions and machines: daemons of a rolling update have to agree."""
    assert [name for name in NAMES[:12] if Shard(0, 3).takes(name)] == EXPECTED


EXPECTED = ["camera-0", "camera-6", "camera-7", "camera-8", "camera-11"]


def test_the_faults_of_another_part_are_its_own() -> None:
    entries = "".join(f"  - {{name: {name}, source: 'ftp://x/y'}}\n" for name in NAMES[:6])
    loaded = parse_config(f"streams:\n  - {{name: good, source: 'pattern:'}}\n{entries}".encode())
    parts = [Shard(index, 2).of(loaded) for index in range(2)]
    assert sorted(len(part.config.streams) for part in parts) == [0, 1]
    assert sum(len(part.quarantined) for part in parts) == 6
    assert WHOLE.of(loaded) == loaded


def test_a_part_says_which_streams_it_has_and_that_it_has_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    entries = "".join(f"  - {{name: {name}, source: 'pattern:'}}\n" for name in NAMES[:12])
    loaded = parse_config(f"streams:\n{entries}  - {{name: off, source: 'pattern:', enabled: false}}\n".encode())
    Shard(0, 3).tell(loaded)
    WHOLE.tell(loaded)
    assert caplog.messages == ["shard 0/3: 5 of 12 streams: camera-0, camera-6, camera-7, camera-8, camera-11"]
    caplog.clear()
    few = parse_config(b"streams: [{name: camera-0, source: 'pattern:'}]\n")
    Shard(1, 3).tell(few)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith("shard 1/3: none of 1 stream;")


@pytest.mark.parametrize("text", ["1", "2/2", "-1/3", "a/b", "1/0", "0/1/2", "1.0/2", ""])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(UsageError, match="expected I/N"):
        Shard.parse(text)
