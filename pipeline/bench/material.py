# SPDX-License-Identifier: Apache-2.0
"""What is measured on: rendered clips, and a small detector whose results leave no room for doubt.

The clips carry bright squares that blink on a grid, over moving noise that keeps the decoder busy. The detector is a
MobileNetV3-small with random weights, so its cost is real, and reports a box where the middle of a grid cell is bright,
so its detections can be compared exactly between programs that decode and resize in different ways.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.errors import PipelineError
from pipeline.host.replacing import replacing

CELL = 32
"""Side of a grid cell in network pixels."""


@dataclass(frozen=True, slots=True)
class Material:
    """What to make.

    Attributes:
        files: number of clips.
        width, height, fps, seconds, mbit: of each clip.
        input: side of the square network input in pixels.
    """

    files: int = 4
    width: int = 1920
    height: int = 1080
    fps: int = 30
    seconds: float = 10.0
    mbit: float = 4.0
    input: int = 352

    @property
    def frames(self) -> int:
        """Frames per clip."""
        return round(self.seconds * self.fps)


def make(material: Material, folder: Path, say: Callable[[str], None] = lambda text: None) -> tuple[list[Path], Path]:
    """The clips and the detector, made unless they are there; (clips, model). Raises PipelineError."""
    stem = f"{material.width}x{material.height}-{material.fps}-{material.frames}-{material.mbit:g}-{material.input}"
    clips = [folder / f"{stem}-{number}.mp4" for number in range(material.files)]
    model = folder / f"detector-{material.input}-any-shape.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, clip in enumerate(clips):
            if not clip.exists():
                say(f"rendering clip {number + 1} of {material.files} (kept in {folder})")
                with replacing(clip) as partial:
                    _encode(material, partial, number)
        if not model.exists():
            say("exporting the detector")
            with replacing(model) as partial:
                _export(material.input, partial)
    except OSError as error:
        raise PipelineError(f"{folder}: the clips cannot be kept there: {error.strerror or error}") from error
    return clips, model


def _encode(material: Material, path: Path, seed: int) -> None:
    import av

    rng = np.random.default_rng(seed)
    width, height = material.width, material.height
    cell = round(CELL * width / material.input)
    texture = _texture(rng, height + 128, width + 128)
    grey = np.full((height // 2, width // 2), 128, np.uint8)
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=Fraction(material.fps), options={"preset": "veryfast", "g": "60"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = round(material.mbit * 1e6)
        frame = av.VideoFrame(width, height, "yuv420p")
        lit = np.zeros((height // cell + 1, width // cell + 1), bool)
        for index in range(material.frames):
            dx, dy = (index * 3) % 128, (index * 2) % 128
            luma = texture[dy : dy + height, dx : dx + width].copy()
            if index % 5 == 0:
                lit = rng.random(lit.shape) < 0.08
            for row, column in zip(*np.nonzero(lit), strict=True):
                luma[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = 225
            for plane, content in zip(frame.planes, (luma, grey, grey), strict=True):
                view = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
                view[: content.shape[0], : content.shape[1]] = content
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth noise of two sizes, luma 30 to 100: never bright enough to be found."""
    import cv2

    coarse = cv2.resize(rng.random((height // 24, width // 24)).astype(np.float32), (width, height))
    fine = cv2.resize(rng.random((height // 4, width // 4)).astype(np.float32), (width, height))
    return (30 + 50 * coarse + 20 * fine).astype(np.uint8)


def _export(side: int, path: Path) -> None:
    import torch
    import torchvision

    class Bright(torch.nn.Module):
        """(B, 3, S, S) RGB/255 -> (B, 4 + 2, A): cells whose middle is bright; class 0 left, 1 right of the centre."""

        def __init__(self) -> None:
            super().__init__()
            self.features = torchvision.models.mobilenet_v3_small(weights=None).features
            self.head = torch.nn.Conv2d(576, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            network = torch.tanh(self.head(self.features(x)))
            middle = torch.nn.functional.avg_pool2d(x[:, :, 12:, 12:], 8, CELL).mean(1, keepdim=True)
            score = torch.sigmoid(20.0 * (middle - 0.6)) + 1e-4 * network[:, :, : middle.shape[2], : middle.shape[3]]
            rows, columns = middle.shape[2], middle.shape[3]
            cy = (torch.arange(rows, device=x.device) * float(CELL) + CELL / 2)[:, None].expand(rows, columns)
            cx = (torch.arange(columns, device=x.device) * float(CELL) + CELL / 2)[None, :].expand(rows, columns)
            boxes = torch.stack([cx, cy, torch.full_like(cx, CELL - 2), torch.full_like(cx, CELL - 2)])
            left = (cx < x.shape[3] / 2).to(x.dtype)[None, None]
            scores = torch.cat([score * left, score * (1 - left)], 1).flatten(2).clamp(0, 1)
            return torch.cat([boxes.flatten(1)[None].expand(x.shape[0], -1, -1), scores], 1)

    torch.manual_seed(0)
    metadata = {"task": "detect", "names": {"0": "left", "1": "right"}, "imgsz": [side, side], "stride": CELL}
    metadata["args"] = {"dynamic": True}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Bright().eval(), torch.rand(1, 3, side, side))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(path), _extra_files={"config.txt": json.dumps(metadata)})
