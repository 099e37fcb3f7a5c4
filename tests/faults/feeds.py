# SPDX-License-Identifier: Apache-2.0
"""Clips that the cameras of the fault suite show, and the daemon's configuration for them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from tests.daemons import JSONL, config
from tests.faults.camera import Cameras, Clip, read_clip
from tests.faults.watched import Watched
from tests.media import H264, Media
from tests.models import Cells, save

GOP_5 = {**H264, "x264-params": "keyint=5:min-keyint=5:scenecut=0:threads=1"}
HEVC_GOP_5 = {"preset": "ultrafast", "x265-params": "keyint=5:min-keyint=5:scenecut=0:qp=8:bframes=0:log-level=none"}
COUNT = 60


def landscape(media: Media) -> Clip:
    """H.264, 64 x 48, a key frame every five."""
    return read_clip(media.clip("mkv", count=COUNT, options=GOP_5, texture=True))


def portrait(media: Media) -> Clip:
    """The same in another size and shape."""
    return read_clip(media.clip("mkv", count=COUNT, options=GOP_5, size=(96, 128), texture=True))


def hevc(media: Media) -> Clip:
    """The same in H.265."""
    return read_clip(media.clip("mkv", count=COUNT, codec="libx265", options=HEVC_GOP_5, texture=True))


def watched_config(folder: Path, streams: Iterable[str], defaults: str) -> Path:
    """A streams.yaml with a tiny detector, JSONL in ``out/`` and a server on any port."""
    (folder / "out").mkdir(exist_ok=True)
    model = folder / "cells.pt"
    if not model.exists():
        save(Cells(), model)
    path = config(folder, model, list(streams), [JSONL], defaults)
    path.write_text(path.read_text() + "server: {listen: '127.0.0.1:0'}\n")
    return path


def entries(cameras: Cameras, *names: str, more: str = "") -> list[str]:
    """Stream entries, each with the name of its camera."""
    return [f"name: {name}, source: '{cameras.url(name)}'{more}" for name in names]


def all_live(daemon: Watched, *names: str) -> bool:
    """Whether the last look found these streams live, with results."""
    streams = daemon.looks[-1].streams if daemon.looks else {}
    told = [streams.get(name) for name in names]
    return all(each is not None and each["state"] == "live" and each["frames"]["processed"] for each in told)


def results(folder: Path, stream: str) -> list[dict[str, Any]]:
    """All lines that a stream has so far."""
    return [orjson.loads(line) for line in (folder / "out" / f"{stream}.jsonl").read_bytes().split(b"\n")[:-1]]


def sound(lines: list[dict[str, Any]]) -> None:
    """Whatever happened to the stream: its results are in order, and none of their times is absurd.

    Times go on over reconnects; a changed entry begins them anew, in another epoch.
    """
    for before, line in pairwise(lines):
        assert line["frame"] > before["frame"], (before, line)
        assert line["epoch"] >= before["epoch"], (before, line)
        assert line["pts"] > before["pts"] or line["epoch"] > before["epoch"], (before, line)
    for line in lines:
        assert all(0 <= value < 60_000 for value in line["latency_ms"].values()), line
        for detection in line["detections"]:
            left, top, right, bottom = detection["box"]
            assert 0 <= left < right <= line["width"], line
            assert 0 <= top < bottom <= line["height"], line


def first_result_s(lines: list[dict[str, Any]], since_s: float) -> float:
    """Wall time at which the first result left whose frame came after ``since_s``."""
    late = (captured_s(line) + line["latency_ms"]["end_to_end"] / 1000 for line in lines if captured_s(line) >= since_s)
    return next(late)


def captured_s(line: dict[str, Any]) -> float:
    """Wall time of capture of a result, in seconds."""
    return datetime.fromisoformat(line["time"]).timestamp()
