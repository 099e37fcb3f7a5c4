# SPDX-License-Identifier: Apache-2.0
"""The look at files before a run: why none of them opens, and that it can be stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import SourceInvalid
from pipeline.frame import StreamInfo
from pipeline.sources import readable
from pipeline.sources.file import FileSource
from pipeline.threads import StopFlag

MOST_PIXELS = 1920 * 1080


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Five that are no videos."""
    found = {name: tmp_path / f"{name}.mp4" for name in "abcde"}
    for path in found.values():
        path.write_text("no video")
    return found


def test_each_file_has_its_reason(files: dict[str, Path]) -> None:
    faults = readable.none_readable(files, MOST_PIXELS, None, StopFlag())
    assert list(faults) == list(files)
    assert all(isinstance(error, SourceInvalid) for error in faults.values())


def test_a_stop_ends_the_look_and_nothing_is_known(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked, opened = StopFlag(), 0

    class Counted(FileSource):
        def open(self, stop: StopFlag) -> StreamInfo:
            nonlocal opened
            opened += 1
            assert stop is asked, "what opens hears it, too"
            if opened == 2:
                asked.set()
            return super().open(stop)

    monkeypatch.setattr(readable, "FileSource", Counted)
    assert readable.none_readable(files, MOST_PIXELS, None, asked) == {}
    assert opened == 2
