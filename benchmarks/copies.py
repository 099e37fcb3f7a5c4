# SPDX-License-Identifier: Apache-2.0
"""Recordings that play the part of cameras: a clip over and over, at any rate, without encoding it again."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

TICKS = 90_000
"""Of a second."""


def copy_at_rate(clip: Path, path: Path, *, fps: float, frames: int, first_gap: float = 1.0) -> None:
    """Write ``frames`` frames at ``fps`` to ``path`` (mp4): those of ``clip``, which has no B-frames, in turn.

    Every pass begins with the clip's first frame, a key frame. ``first_gap``: intervals between the first frame and the
    second; copies that are started together get different phases by it.
    """
    with av.open(str(clip)) as source, av.open(str(path), "w", "mp4") as out:
        template = source.streams.video[0]
        stream = out.add_stream_from_template(template)
        written = 0
        while written < frames:
            source.seek(0)
            for packet in source.demux(template):
                if packet.size == 0 or written == frames:
                    continue
                at = round(0 if written == 0 else (written - 1 + first_gap) * TICKS / fps)
                packet.stream = stream
                packet.pts = packet.dts = at
                packet.time_base = Fraction(1, TICKS)
                packet.duration = round(TICKS / fps)
                out.mux(packet)
                written += 1


def due_s(index: int, *, fps: float, first_gap: float = 1.0) -> float:
    """When frame ``index`` of such a copy is due, seconds after its first."""
    return 0.0 if index == 0 else (index - 1 + first_gap) / fps
