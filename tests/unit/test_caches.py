# SPDX-License-Identifier: Apache-2.0
"""The cache: a convenience that must never be in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.host.caches import cache_folder, read_cached, write_cached


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("verdicts") == tmp_path / "video-pipeline" / "verdicts"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says to ignore such a value
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder("bench") == Path("/home/somebody/.cache/video-pipeline/bench")


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987_654_321)  # nobody in the list of users
    entry = cache_folder("tuned") / "entry.json"
    write_cached(entry, {"a": 1})
    assert read_cached(entry) is None
    assert not entry.parent.is_dir()


def test_what_is_written_is_read_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "entry.json"
    write_cached(path, {"a": [1, 2]})
    assert read_cached(path) == {"a": [1, 2]}
    write_cached(path, {"b": None})
    assert read_cached(path) == {"b": None}
    assert [entry.name for entry in path.parent.iterdir()] == ["entry.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_damaged_entry_is_as_good_as_none(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "entry.json"
    assert read_cached(path) is None
    path.write_bytes(damage)
    assert read_cached(path) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "entry.json", Path("/proc/nothing/entry.json")):
        write_cached(path, {})
        assert read_cached(path) is None
    assert (tmp_path / "file").read_bytes() == b""
