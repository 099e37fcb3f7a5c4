# SPDX-License-Identifier: Apache-2.0
"""Which files the sinks of a ``pipeline run`` wrote."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config.outputs import SinkConfig

SLACK_NS = 50_000_000
"""File systems take the time of a change from a coarser clock, which is behind by up to a tick."""


def written_files(sinks: Iterable[SinkConfig], streams: Iterable[str], since_ns: int) -> list[Path]:
    """The files of these sinks that were changed since ``since_ns`` (wall time), rotated ones left out: of segments of
    video the newest is named.

    Later parts (``lobby.2.mp4``, ``coco.2.json``) count.
    """
    names = list(streams)
    found: dict[Path, None] = {}
    for sink in sinks:
        if sink.type == "coco":
            paths = [os.path.join(sink.path, name) for name in ("coco.json", "coco_images.json")]
        else:
            templates = filter(None, (sink.path, getattr(sink, "events_path", None)))
            paths = [template.replace("{stream}", name) for template in templates for name in names]
        for path in paths:
            stem, suffix = os.path.splitext(path)
            later = f"{glob.escape(stem)}.[0-9]*{glob.escape(suffix)}"
            files = [file for file in (path, *sorted(glob.glob(later))) if os.path.isfile(file)]
            if sink.type == "video" and sink.rotate is not None:
                files = sorted(files, key=os.path.getmtime)[-1:]
            for file in files:
                if os.stat(file).st_mtime_ns >= since_ns - SLACK_NS:
                    found[Path(file)] = None
    return [_from_here(file) for file in found]


def _from_here(file: Path) -> Path:
    """As the user would name it."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file
