# SPDX-License-Identifier: Apache-2.0
"""RTSP cameras in a process of their own, that say when they sent which frame: ``tests/faults/camera`` with a clip."""

from __future__ import annotations

import bisect
import json
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av

from pipeline.bench.material import Material, make
from pipeline.host.orphans import no_orphan
from pipeline.host.replacing import replacing
from tests.faults.camera import read_clip

CLOCK = 90_000
"""RTP ticks of a second of video."""


def camera_clip(folder: Path, *, fps: int, gop: int, width: int = 640, height: int = 360) -> tuple[Path, Path]:
    """A clip as cameras send it (no B-frames, one slice, a key frame each ``gop`` frames), and a detector for it."""
    (rendered,), model = make(Material(1, width, height, fps, 20.0, 2.0), folder)
    clip = folder / f"{rendered.stem}-gop{gop}.mkv"
    if not clip.exists():
        options = {"preset": "veryfast", "crf": "23", "x264-params": f"keyint={gop}:scenecut=0:bframes=0:slices=1"}
        with (
            replacing(clip) as partial,
            av.open(str(rendered)) as source,
            av.open(str(partial), "w", "matroska") as out,
        ):
            stream = out.add_stream("libx264", rate=Fraction(fps), options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for index, frame in enumerate(source.decode(video=0)):
                frame.pts, frame.time_base, frame.pict_type = index, Fraction(1, fps), 0
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return clip, model


class Sent:
    """What one camera sent while somebody looked.

    Attributes:
        places: of the frames in the clip, from the first one that the receiver got: it begins with a key frame.
        sent_ns: when the first byte of each left, monotonic.
    """

    def __init__(self, frames: list[tuple[int, int, int]], keys: list[bool]) -> None:
        first = next((at for at, (number, _, _) in enumerate(frames) if keys[number % len(keys)]), len(frames))
        own = frames[first:]
        self.places = [number % len(keys) for number, _, _ in own]
        self.sent_ns = [sent for _, _, sent in own]
        self._ticks = [ticks for _, ticks, _ in own]
        self._near = min((b - a for a, b in pairwise(self._ticks)), default=CLOCK) * 0.1

    def __len__(self) -> int:
        return len(self.places)

    def find(self, pts_s: float) -> int | None:
        """The number of the frame whose time stamp is ``pts_s`` after the first one's; None where none is near."""
        wanted = self._ticks[0] + pts_s * CLOCK
        at = bisect.bisect_left(self._ticks, wanted)
        nearest = min(range(max(0, at - 1), min(len(self), at + 1)), key=lambda i: abs(self._ticks[i] - wanted))
        return nearest if abs(self._ticks[nearest] - wanted) < self._near else None


class Cameras:
    """``count`` of them behind one port. To be closed."""

    def __init__(self, clip: Path | None, count: int, fps: float, log: Path, port: int = 0) -> None:
        """Without a ``clip`` what they show is stamped, see :mod:`tests.stamps`."""
        self._log = log
        self._clip = clip
        clips = [] if clip is None else [str(clip)]
        command = [sys.executable, "-m", "tests.faults.camera", *clips, "--cameras", str(count), "--fps", str(fps)]
        self.process = subprocess.Popen(
            [*command, "--port", str(port), "--log", str(log), "--until-eof"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=no_orphan(),
        )  # fmt: skip
        assert self.process.stdout is not None
        self.urls = [self.process.stdout.readline().strip() for _ in range(count)]
        if not self.urls[-1]:
            raise RuntimeError("the cameras did not start")

    @property
    def port(self) -> int:
        return int(self.urls[0].split(":")[2].split("/")[0])

    def close(self) -> None:
        """They hang up."""
        if self.process.poll() is None:
            self.process.communicate(timeout=10)

    def kill(self) -> None:
        """Gone, as when a plug is pulled."""
        self.process.kill()
        self.process.communicate()

    def played(self) -> dict[str, int]:
        """When somebody first looked, monotonic, to one frame; after :meth:`close`."""
        found: dict[str, int] = {}
        for text in self._log.read_text().splitlines():
            entry = json.loads(text)
            found.setdefault(entry["camera"], entry["sent_ns"])
        return found

    def sent_ns(self) -> dict[tuple[str, int], int]:
        """When each frame left, monotonic, by the name of the camera and its number there; after :meth:`close`."""
        entries = map(json.loads, self._log.read_text().splitlines())
        return {(entry["camera"], entry["frame"]): entry["sent_ns"] for entry in entries}

    def sent(self) -> dict[str, Sent]:
        """By the name of the camera, where they show a clip; after :meth:`close`."""
        assert self._clip is not None
        frames: dict[str, list[tuple[int, int, int]]] = {}
        for text in self._log.read_text().splitlines():
            entry = json.loads(text)
            frames.setdefault(entry["camera"], []).append((entry["frame"], entry["rtp"], entry["sent_ns"]))
        keys = [unit.key for unit in read_clip(self._clip).units]
        return {camera: Sent(found, keys) for camera, found in frames.items()}
