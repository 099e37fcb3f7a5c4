# SPDX-License-Identifier: Apache-2.0
"""What a source costs beside the decoder: CPU time per frame against PyAV's plain loop over the same clip."""

from __future__ import annotations

import time

import av

from pipeline.sources import FileSource
from pipeline.threads import StopFlag
from tests.media import Media, media

__all__ = ["media"]

FRAMES = 300
BUDGET_US = 60.0


def plain(path: str) -> float:
    """CPU microseconds per frame of the shortest loop that there is."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        began = time.process_time()
        frames = sum(len(packet.decode()) for packet in container.demux(stream))
        return (time.process_time() - began) / frames * 1e6


def ours(path: str) -> float:
    """CPU microseconds per frame of a FileSource, the first frame (decoded in open) left out."""
    source = FileSource(path)
    source.open(StopFlag())
    began = time.process_time()
    frames = 0
    while source.read() is not None:
        frames += 1
    spent = time.process_time() - began
    source.close()
    assert frames == FRAMES
    return spent / frames * 1e6


def test_overhead_per_frame(media: Media) -> None:
    """Tiny pictures, so that the decoder hardly counts; the best of several rounds, so that neighbours do not."""
    path = str(media.clip(count=FRAMES))
    rounds = [(ours(path), plain(path)) for _ in range(5)]
    overhead = min(mine for mine, _ in rounds) - min(theirs for _, theirs in rounds)
    print(f"source overhead: {overhead:.1f} us per frame")
    assert overhead < BUDGET_US
