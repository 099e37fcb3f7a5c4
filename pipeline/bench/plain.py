# SPDX-License-Identifier: Apache-2.0
"""The loops that people write by hand, as well as they are usually written: OpenCV reads, TorchScript detects.

``loop`` takes one file after another with torch's default threads. ``pool`` gives each file a thread of a
ThreadPoolExecutor and torch one intra-op thread, which is the strongest of the simple designs on a CPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torchvision.ops import batched_nms

Boxes = list[tuple[float, float, float, float, int]]
"""x1, y1, x2, y2 in source pixels and the class id."""


def load(model: Path) -> Any:
    """The TorchScript module, in eval mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(str(model), map_location="cpu").eval()  # type: ignore[no-untyped-call]


def loop(
    clips: Sequence[Path], network: Any, side: int, confidence: float, limit: int | None = None
) -> list[list[Boxes]]:
    """One clip after another; detections per clip and frame. ``limit``: frames per clip at most."""
    return [_file(clip, network, side, confidence, limit) for clip in clips]


def pool(
    clips: Sequence[Path], network: Any, side: int, confidence: float, limit: int | None = None
) -> list[list[Boxes]]:
    """A thread per clip; the caller has set one intra-op thread."""

    def file(clip: Path) -> list[Boxes]:
        torch.set_num_threads(1)
        return _file(clip, network, side, confidence, limit)

    with ThreadPoolExecutor(max_workers=len(clips)) as executor:
        return list(executor.map(file, clips))


def _file(clip: Path, network: Any, side: int, confidence: float, limit: int | None) -> list[Boxes]:
    capture = cv2.VideoCapture(str(clip))
    found: list[Boxes] = []
    with torch.inference_mode():
        while limit is None or len(found) < limit:
            ok, picture = capture.read()
            if not ok:
                break
            tensor, placing = letterboxed(picture, side)
            found.append(parsed(network(tensor)[0], confidence, placing))
    return found


class Placing(NamedTuple):
    """Where a picture lies in the network's input: scale, padding, and its size in pixels."""

    scale: float
    left: int
    top: int
    width: int
    height: int


def letterboxed(picture: np.ndarray, side: int) -> tuple[torch.Tensor, Placing]:
    """A BGR picture as (1, 3, side, side) RGB, 0..1."""
    height, width = picture.shape[:2]
    scale = min(side / height, side / width)
    new_width, new_height = round(width * scale), round(height * scale)
    resized = cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    left, top = (side - new_width) // 2, (side - new_height) // 2
    canvas = np.full((side, side, 3), 114, np.uint8)
    canvas[top : top + new_height, left : left + new_width] = resized
    rgb = np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1))
    return torch.from_numpy(rgb).unsqueeze(0).float() / 255, Placing(scale, left, top, width, height)


def parsed(output: torch.Tensor, confidence: float, placing: Placing) -> Boxes:
    """The detections in one picture's (4 + classes, anchors), in pixels of the source, clipped to it."""
    scores, classes = output[4:].max(0)
    keep = scores > confidence
    centre = output[:2, keep].T
    half = output[2:4, keep].T / 2
    boxes = torch.cat([centre - half, centre + half], 1)
    kept = batched_nms(boxes, scores[keep], classes[keep], 0.5)
    pad = torch.tensor([placing.left, placing.top] * 2)
    in_source = ((boxes[kept] - pad) / placing.scale).tolist()
    width, height = placing.width, placing.height
    return [
        (max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height), int(cls))
        for (x1, y1, x2, y2), cls in zip(in_source, classes[keep][kept].tolist(), strict=True)
    ]
