# SPDX-License-Identifier: Apache-2.0
"""The file or folder that was probably meant."""

from __future__ import annotations

from pathlib import Path

from pipeline.host.nearby import meant


def test_one_letter_off_is_told(tmp_path: Path) -> None:
    (tmp_path / "sample_videos").mkdir()
    (tmp_path / "streams.yaml").touch()
    assert meant(tmp_path / "sample_video") == f"; did you mean {tmp_path / 'sample_videos'}?"
    assert meant(tmp_path / "stream.yaml", folders=False) == f"; did you mean {tmp_path / 'streams.yaml'}?"
    assert meant(tmp_path / "sample_video", folders=False) == "", "a file is expected there"


def test_what_is_unlike_everything_gets_no_guess(tmp_path: Path) -> None:
    (tmp_path / "gate.mp4").touch()
    assert meant(tmp_path / "other.yaml") == ""
    assert meant(tmp_path / "nowhere" / "gate.mp4") == "", "there is no such folder"
    assert meant(tmp_path / ("x" * 5000)) == ""
