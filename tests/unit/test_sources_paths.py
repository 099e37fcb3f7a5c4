# SPDX-License-Identifier: Apache-2.0
"""What a command line means: files, folders, globs, URLs; and what is never opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.sources import check_scheme, expand, local_path, looks_live


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cam10.mp4", "cam2.MP4", "cam1.mkv", "notes.txt", ".hidden.mp4", "deep/cam3.avi", "deep/er/cam4.ts"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(found: list[str | Path]) -> list[str]:
    return [Path(item).name for item in found]


def test_a_folder_stands_for_its_videos_sorted_as_people_count(folder: Path) -> None:
    assert names(expand([folder])) == ["cam1.mkv", "cam2.MP4", "cam10.mp4"]


def test_globs_go_deeper(folder: Path) -> None:
    assert names(expand([f"{folder}/**/*"])) == ["cam1.mkv", "cam2.MP4", "cam10.mp4", "cam3.avi", "cam4.ts"]
    assert names(expand([f"{folder}/cam1*"])) == ["cam1.mkv", "cam10.mp4"]


def test_a_file_that_is_named_may_be_called_anything(folder: Path) -> None:
    assert expand([folder / "notes.txt"]) == [folder / "notes.txt"]
    assert names(expand([f"{folder}/*.txt"])) == ["notes.txt"]


def test_order_is_kept_and_repetitions_too(folder: Path) -> None:
    found = expand([folder / "cam10.mp4", folder / "cam10.mp4", folder])
    assert names(found) == ["cam10.mp4", "cam10.mp4", "cam1.mkv", "cam2.MP4", "cam10.mp4"]


def test_names_with_magic_characters_and_colons(tmp_path: Path) -> None:
    for name in ("a[1].mp4", "concat:b.mp4"):
        (tmp_path / name).touch()
        assert expand([tmp_path / name]) == [tmp_path / name]


def test_relative_names_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data:x.mp4").touch()
    monkeypatch.chdir(tmp_path)
    assert expand(["data:x.mp4"]) == [Path("data:x.mp4")]


def test_urls_are_handed_back(folder: Path) -> None:
    urls = ["http://host/a.mp4", "pattern:?frames=3", "rtsp://host/1"]
    assert expand([*urls, folder / "cam1.mkv"]) == [*urls, folder / "cam1.mkv"]
    assert expand([f"file://{folder}/cam1.mkv"]) == [folder / "cam1.mkv"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["nowhere/at/all.mp4"], "no such file or folder$"),
        (["{folder}/deep/nothing*.mp4"], "no video matches"),
        (["{folder}/*.md"], "no video matches"),
        ([], "no source was given"),
        (["concat:a.mp4|b.mp4"], "kind concat: are not allowed; expected a path or one of rtsp:"),
        (["lavfi:testsrc"], "not allowed"),
        (["pipe:0"], "not allowed"),
        (["subfile:,,start,0,end,9,,:a.mp4"], "not allowed"),
        (["data:text/plain,x"], "not allowed"),
        (["ftp://host/a.mp4"], "not allowed"),
        (["\0.mp4"], "no such file"),
        (["x" * 5000], "no such file"),
    ],
)
def test_unusable_sources(folder: Path, sources: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        expand([source.format(folder=folder) for source in sources])
    assert "\n" not in str(caught.value)


def test_a_folder_without_videos_names_the_way_deeper(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no videos in this folder \(looked for .*\.mp4") as caught:
        expand([folder / "empty"])
    assert "below" not in str(caught.value)
    (folder / "top" / "below").mkdir(parents=True)
    (folder / "top" / "below" / "a.mp4").touch()
    with pytest.raises(UsageError, match=r"in folders below it: try '.*/top/\*\*/\*'$") as caught:
        expand([folder / "top"])
    assert ".mp4" not in str(caught.value)  # a list of suffixes would hide the remedy


def test_refused_schemes_show_no_secret() -> None:
    with pytest.raises(UsageError) as caught:
        check_scheme("rtmp://admin:hunter2@host/live")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "live"),
    [
        ("rtsp://10.0.0.5/stream1", True),
        ("RTSPS://10.0.0.5/stream1", True),
        ("http://cam/video", True),
        ("http://cam/video.mjpg?fps=5", True),
        ("https://cam/clip.mp4?x=y", False),
        ("v4l2:///dev/video0", True),
        ("/dev/video12", True),
        ("pattern:?size=64x48", True),
        ("pattern:?size=64x48&frames=9", False),
        ("a.mp4", False),
        ("file:///a.mp4", False),
        ("videos/", False),
    ],
)
def test_feeds_are_told_from_recordings(source: str, live: bool) -> None:
    assert looks_live(source) is live


def test_local_paths() -> None:
    assert local_path("file:///a%20b.mp4") == Path("/a b.mp4")
    assert local_path("file://localhost/a.mp4") == Path("/a.mp4")
    assert local_path("file:a.mp4") == Path("a.mp4")
    assert local_path("a%20b.mp4") == Path("a%20b.mp4")
