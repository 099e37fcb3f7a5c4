# SPDX-License-Identifier: Apache-2.0
"""A camera that can be taken away, of two makes: our own, and GStreamer's RTSP server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from tests.faults import feeds
from tests.faults.camera import Access, Camera, Cameras, serving
from tests.media import Media
from tests.peers import test_rtsp as gstreamer

MAKES = ("own", "gstreamer")


class Peer(Protocol):
    """One camera, named ``stream``."""

    url: str

    def vanish(self) -> None: ...

    def come_back(self) -> None: ...


class _Own:
    def __init__(self, cameras: Cameras) -> None:
        self.url = cameras.url("stream")
        self.vanish, self.come_back = cameras.vanish, cameras.come_back


class _GStreamer:
    def __init__(self, serve: gstreamer.Serve, clip: Path, *login: str) -> None:
        self._serve, self._clip, self._login = serve, clip, login
        self._process, self._port = serve(clip, 0, *login)
        self.url = f"rtsp://127.0.0.1:{self._port}/stream"

    def vanish(self) -> None:
        self._process.kill()
        self._process.wait()

    def come_back(self) -> None:
        self._process, _ = self._serve(self._clip, self._port, *self._login)


@contextmanager
def peer(make: str, media: Media, *login: str) -> Iterator[Peer]:
    """A camera with 25 frames a second, for ``user, password`` or everybody."""
    if make == "own":
        access = Access(*login) if login else None
        with serving(Camera("stream", feeds.landscape(media), fps=25, access=access)) as cameras:
            yield _Own(cameras)
        return
    found = subprocess.run([gstreamer.PYTHON, "-c", gstreamer.NEEDED], capture_output=True, check=False)
    if found.returncode:
        pytest.skip("needs Debian's gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good, -bad and python3-gi")
    clip = media.clip("mkv", count=1000, options=gstreamer.GOP_OF_A_SECOND)
    with gstreamer.serving() as serve:
        yield _GStreamer(serve, clip, *login, *(("digest",) if login else ()))
