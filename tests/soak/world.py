# SPDX-License-Identifier: Apache-2.0
"""The daemon of a soak and everything around it: cameras that can fail, a recording, patterns, a configuration."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.camera import Camera, Cameras, Clip, Fault, Healthy, read_clip, serving
from tests.media import encode, textured
from tests.models import Cells, save
from tests.processes import Running, awaited

CAMERAS = 4
RATE = 10
PATTERN = "pattern:?size=64x48&fps=10"
READ_TIMEOUT_S = 3.0
CLIP = {"preset": "ultrafast", "qp": "24", "x264-params": "keyint=10:min-keyint=10:scenecut=0:bframes=0:threads=1"}


class World:
    """What faults may be done to.

    Attributes:
        run: the daemon.
        cameras: its cameras, ``cam0`` and so on.
        entries: the streams of its configuration by name, as they are when nothing is wrong.
        folder: where it works.
    """

    def __init__(self, folder: Path, cameras: Cameras, model: Path, recording: Path, other: Clip) -> None:
        self.folder = folder
        self.cameras = cameras
        self.other = other
        self._path = folder / "streams.yaml"
        self._model = model
        self.entries = {
            f"cam{n}": f"source: '{cameras.url(f'cam{n}')}', read_timeout_s: {READ_TIMEOUT_S:g}" for n in range(CAMERAS)
        }
        self.entries |= {f"pattern{n}": f"source: '{PATTERN}'" for n in range(2)}
        self.entries |= {"clip": f"source: {recording}, loop: true, pace: realtime"}
        self.write()
        self.run = Running(self._path, "--out", str(folder / "report"))

    def write(self, **changes: str | None) -> None:
        """The configuration with some entries changed, added, or (None) left out."""
        entries = {**self.entries, **changes}
        head = [
            f"model: {{path: {self._model}, input: 64, adapter: ultralytics, device: cpu}}",
            "batch: {max_size: 4, workers: 1}",
            "server: {listen: '127.0.0.1:0'}",
            "sinks: [{type: jsonl, path: 'out/{stream}.jsonl', rotate: {max_mb: 1, keep: 3}}]",
            "streams:",
        ]
        lines = [f"  - {{name: {name}, {entry}}}" for name, entry in entries.items() if entry is not None]
        self._path.write_text("\n".join([*head, *lines]) + "\n")

    def break_the_file(self) -> None:
        """No YAML any more."""
        self._path.write_text("streams: [\n")

    def reload(self) -> None:
        """Ask the daemon to read its configuration."""
        self.run.send(signal.SIGHUP)

    def suffer(self, name: str, fault: Fault) -> None:
        """From now on this is wrong with a camera."""
        self.cameras.do(lambda cameras: cameras[name].inflict(fault, [fault]))

    def heal(self, name: str) -> None:
        """Nothing is wrong with it any more."""
        self.suffer(name, Healthy())

    def streams(self) -> dict[str, dict[str, Any]]:
        """As the API tells them."""
        return self.run.streams()

    def all_live(self) -> bool:
        """Every stream of the configuration is."""
        streams = self.streams()
        return all(streams.get(name, {}).get("state") == "live" for name in self.entries)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """All of it, running, with all streams live."""
    recording = encode(folder / "clip.mkv", (textured(n, 160, 120) for n in range(60)), rate=RATE, options=CLIP)
    larger = encode(folder / "larger.mkv", (textured(n, 320, 176) for n in range(30)), rate=RATE, options=CLIP)
    model = save(Cells(), folder / "cells.pt")
    shown = read_clip(recording)
    with serving(*(Camera(f"cam{n}", shown, fps=RATE) for n in range(CAMERAS))) as cameras:
        made = World(folder, cameras, model, recording, read_clip(larger))
        try:
            made.run.until("detector ready")
            awaited(made.all_live, "all streams live")
            yield made
        finally:
            made.run.kill()
