# SPDX-License-Identifier: Apache-2.0
"""What the work itself costs: decoding alone, resizing alone, the network alone.

Each floor runs as as many simultaneous copies as there are cores, because that is how the pipeline runs them: copies
share caches and memory bandwidth, and a floor measured alone would promise too much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from pipeline.frame import InputSpec, Picture
from pipeline.stages import Letterbox


def decode(clips: Sequence[Path], copies: int) -> int:
    """Decode every frame and do nothing with it, one libav thread per clip; frames decoded."""

    def one(clip: Path) -> int:
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            stream.thread_type = "SLICE"
            return sum(1 for packet in container.demux(stream) for _ in packet.decode())

    with ThreadPoolExecutor(copies) as executor:
        return sum(executor.map(one, clips))


def resize(clip: Path, spec: InputSpec, frames: int, copies: int) -> int:
    """Bring one decoded picture to the network's size again and again; pictures made, about ``frames``."""
    with av.open(str(clip)) as container:
        frame = next(container.decode(video=0))
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        planes.append(rows[: plane.height, : plane.width])
    picture = Picture(tuple(planes), "yuv", "bt709" if frame.height >= 720 else "bt601")

    def work(count: int) -> int:
        stage = Letterbox()
        out = np.empty(spec.shape, np.uint8)
        for _ in range(count):
            stage.prepare(picture, spec, out)
        return count

    return _shared(work, frames, copies)


def network(module: Any, spec: InputSpec, batch: int, frames: int, copies: int) -> int:
    """Run ready batches through the network, one intra-op thread per copy; pictures shown, about ``frames``."""

    def work(count: int) -> int:
        torch.set_num_threads(1)
        shape = (batch, 3, spec.height, spec.width)
        pictures = torch.rand(shape).to(memory_format=torch.channels_last)
        batches = max(1, count // batch)
        with torch.inference_mode():
            for _ in range(batches):
                module(pictures)
        return batches * batch

    return _shared(work, frames, copies)


def _shared(work: Callable[[int], int], frames: int, copies: int) -> int:
    with ThreadPoolExecutor(copies) as executor:
        return sum(executor.map(work, [max(1, frames // copies)] * copies))
