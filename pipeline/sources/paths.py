# SPDX-License-Identifier: Apache-2.0
"""Which recordings a command line means: files, folders, globs and URLs."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pipeline.errors import UsageError
from pipeline.host.nearby import meant
from pipeline.sources.opening import check_scheme, local_path, scheme_of

VIDEO_SUFFIXES: Final = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "3gp", "3g2", "mkv", "webm", "avi", "flv", "asf", "wmv", "ogv"),
        *("ts", "mts", "m2ts", "mpg", "mpeg", "vob", "ivf", "obu", "y4m", "mjpeg", "mjpg"),
        *("h264", "264", "avc", "h265", "265", "hevc"),
    )
)
"""What counts as a video in a folder. A file that is named itself may be called anything."""


def expand(sources: Iterable[str | Path]) -> list[str | Path]:
    """The recordings that ``sources`` mean, in the order given; what is named twice is played twice.

    A folder stands for the videos directly inside it, sorted as people count (``cam2`` before ``cam10``); ``**`` in a
    glob goes deeper. URLs are handed back as they are.

    Raises:
        UsageError: nothing was given, a path does not exist, a folder or glob has no videos, a scheme is not allowed.
    """
    found: list[str | Path] = []
    for source in sources:
        text = str(source)
        found += [text] if check_scheme(text) not in (None, "file") else _local(text)
    if not found:
        raise UsageError("no source was given; expected a video file, a folder with videos, a glob or a URL")
    return found


def looks_live(source: str) -> bool:
    """Whether a source is a feed by its address: RTSP, a device, HTTP not of a video file, an endless pattern."""
    scheme = scheme_of(source)
    if scheme in ("rtsp", "rtsps", "v4l2"):
        return True
    if scheme in ("http", "https"):
        path = re.split(r"[?#]", source, maxsplit=1)[0]
        return Path(path).suffix.lower() not in VIDEO_SUFFIXES - {".mjpg", ".mjpeg", ".ts"}
    if scheme == "pattern":
        return re.search(r"[?&]frames=\d", source) is None
    return re.match(r"/dev/video\d+$", source) is not None


def _local(text: str) -> list[Path]:
    path = local_path(text)
    if os.path.isdir(path):
        try:
            videos = _videos(path.iterdir())
        except OSError as error:
            raise UsageError(f"{path}: the folder cannot be read: {error.strerror}") from error
        if videos:
            return videos
        deeper = any(_is_video(name) for _, _, names in os.walk(path) for name in names)
        if deeper:
            raise UsageError(f"{path}: no videos in this folder, but in folders below it: try '{path}/**/*'")
        raise UsageError(f"{path}: no videos in this folder (looked for {_suffixes()})")
    if os.path.lexists(path):
        return [path]
    if glob.has_magic(text):
        matches = [Path(match) for match in glob.iglob(str(path), recursive=True)]
        spelled_out = bool(path.suffix) and not glob.has_magic(path.suffix)  # "*.dat" means what it says
        videos = sorted(filter(Path.is_file, matches), key=_natural) if spelled_out else _videos(matches)
        if videos:
            return videos
        raise UsageError(f"{text}: no video matches this pattern")
    raise UsageError(f"{path}: no such file or folder{meant(path)}")


def _videos(paths: Iterable[Path]) -> list[Path]:
    return sorted((path for path in paths if _is_video(path.name) and path.is_file()), key=_natural)


def _is_video(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Digits compare as numbers, letters without case; the text itself settles what is left."""
    parts = re.split(r"(\d+)", str(path))
    key = [(0, int(part), part) if part.isdecimal() else (1, 0, part.lower()) for part in parts if part]
    return [*key, (2, 0, str(path))]


def _suffixes() -> str:
    return " ".join(sorted(VIDEO_SUFFIXES))
