# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced in one step, whoever writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.host.caches import write_cached
from pipeline.host.replacing import replacing
from pipeline.report.saving import save_json


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            assert path.read_text() == "old"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["m.pt"])


def test_two_writers_have_files_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (path.read_text(), os.listdir(tmp_path)) == ("one", ["m.pt"])


def test_who_may_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = os.umask(0o027)
    try:
        with replacing(tmp_path / "shared"):
            pass
        with replacing(tmp_path / "own", private=True):
            pass
    finally:
        os.umask(mask)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("shared", "own")] == [0o640, 0o600]


def test_what_other_threads_make_meanwhile_keeps_its_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process has one mask for new files: whoever changes it for a moment does so for all threads."""

    def changed(mask: int) -> int:
        raise AssertionError(f"the mask of the process was set to {mask:o}")

    monkeypatch.setattr(os, "umask", changed)
    with replacing(tmp_path / "shared") as partial:
        partial.write_text("new")
    assert (tmp_path / "shared").read_text() == "new"


def test_links_that_somebody_laid_are_not_written_through(tmp_path: Path) -> None:
    """Names with the process number in them can be guessed."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f".entry.json.{os.getpid()}").symlink_to(victim)
    write_cached(tmp_path / "entry.json", {"a": 1})
    save_json({"a": 1}, tmp_path)
    assert victim.read_text() == "mine"
