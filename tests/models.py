# SPDX-License-Identifier: Apache-2.0
"""Tiny TorchScript detectors, made when a test asks for them; no weights are stored and nothing is downloaded."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.frame import Batch, Frame, Geometry, InputSpec, Item, StreamKey, Uint8Array
from pipeline.timing import new_trace

CELL = 32
"""Side of a cell of :class:`Cells` in network pixels."""
NAMES = {0: "red", 1: "green", 2: "blue"}
"""Of its classes."""


class Cells(nn.Module):
    """Every 32 x 32 cell of the picture is an anchor. Class 0, 1, 2 = red, green, blue: the score of a class is the
    mean of that channel over the cell (0..1); the box is the cell, grown to ``grow`` times its size."""

    def __init__(self, grow: float = 1.0) -> None:
        super().__init__()
        self.grow = grow

    def cells(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 4, A) boxes as centre and size, (B, 3, A) scores."""
        scores = nn.functional.avg_pool2d(x, 32).flatten(2)
        rows, columns = x.size(2) // 32, x.size(3) // 32
        cy = (torch.arange(rows, device=x.device) * 32.0 + 16.0)[:, None].expand(rows, columns).flatten()
        cx = (torch.arange(columns, device=x.device) * 32.0 + 16.0)[None, :].expand(rows, columns).flatten()
        side = torch.full_like(cx, 32.0 * self.grow)
        boxes = torch.stack((cx, cy, side, side)).unsqueeze(0).expand(x.size(0), 4, cx.numel())
        return boxes, scores

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores), 1)


class CellsWithObjectness(Cells):
    """The same in the layout of YOLOv5: (B, A, 5 + 3) first of a tuple, objectness 0.9 everywhere."""

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:  # type: ignore[override]
        boxes, scores = self.cells(x)
        objectness = torch.full_like(scores[:, :1], 0.9)
        return torch.cat((boxes, objectness, scores), 1).transpose(1, 2), [scores]


class CellsAsRows(Cells):
    """The same as finished detections: the ten best cells above 0.25 as (B, 10, 6) rows, padded with zeros."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        best, class_id = scores.max(1)
        top, index = best.topk(10, 1)
        chosen = boxes.transpose(1, 2).gather(1, index.unsqueeze(2).expand(-1, -1, 4))
        half = chosen[:, :, 2:] / 2.0
        corners = torch.cat((chosen[:, :, :2] - half, chosen[:, :, :2] + half), 2)
        rows = torch.cat((corners, top.unsqueeze(2), class_id.gather(1, index).unsqueeze(2).to(x.dtype)), 2)
        return rows * (top > 0.25).unsqueeze(2)


class Normalised(Cells):
    """:class:`Cells` with boxes in 0..1."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        size = torch.tensor([x.size(3), x.size(2)] * 2).to(x).view(1, 4, 1)
        return torch.cat((boxes / size, scores), 1)


class Canned(nn.Module):
    """Returns a stored tensor (N, ...): the rows of the first pictures, repeated when there are more pictures."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.register_buffer("output", output)

    def forward(self, x: Tensor) -> Tensor:
        index = torch.arange(x.size(0)) % self.output.size(0)
        return self.output[index]


class NanWhereRed(Cells):
    """:class:`Cells`, but a cell that is fully red gets NaN scores, and one that is fully blue an infinite box."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        red = (scores[:, 0] > 0.99) & (scores[:, 1] < 0.01)
        blue = (scores[:, 2] > 0.99) & (scores[:, 1] < 0.01)
        scores = scores.masked_fill(red.unsqueeze(1), float("nan"))
        boxes = boxes.masked_fill(blue.unsqueeze(1), float("inf"))
        return torch.cat((boxes, scores), 1)


class RaisesOnWhite(Cells):
    """:class:`Cells`, but a wholly white picture in the batch makes it raise."""

    def forward(self, x: Tensor) -> Tensor:
        if bool((x.flatten(1).amin(1) > 0.99).any()):
            raise ValueError("poison picture")
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores), 1)


class HangsOnGrey(Cells):
    """Well with pictures; it never returns once the middle of one is of a single grey level, as in our clips, but for
    the level of padding, with which it is warmed."""

    def forward(self, x: Tensor) -> Tensor:
        middle = x[:, :, 24:40, 24:40].flatten(1)
        grey = (middle.amax(1) - middle.amin(1) < 0.03) & ((middle[:, 0] * 255.0).round() != 114.0)
        while bool(grey.any()):
            x = x + 0.0
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores), 1)


class ForgetsOnWhite(Cells):
    """:class:`Cells`, but returns one picture too few when one is wholly white."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        output = torch.cat((boxes, scores), 1)
        if bool((x.flatten(1).amin(1) > 0.99).any()):
            return output[1:]
        return output


class OnCpuOnly(Cells):
    """:class:`Cells` with a tensor of its own, made on the CPU wherever the pictures are."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores + torch.zeros(scores.size(2))), 1)


class Hungry(Cells):
    """:class:`Cells`, but each picture of a batch takes ``need`` bytes more while it is looked at."""

    def __init__(self, need: int) -> None:
        super().__init__()
        self.need = need

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        taken = torch.empty([x.size(0), self.need], dtype=torch.uint8, device=x.device)
        return torch.cat((boxes, scores + 0.0 * taken[:, :1].unsqueeze(2).to(x.dtype)), 1)


class OutOfBounds(Cells):
    """:class:`Cells`, but a wholly white picture makes it read a place that does not exist."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        place = (x.flatten(1).amin(1) > 0.99).long() * 1000000
        return torch.cat((boxes, scores), 1)[place.clamp(min=0) + torch.arange(x.size(0), device=x.device)]


class Stem(Cells):
    """:class:`Cells` behind two convolutions with weights of their own."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 32, 3, padding=1)
            self.second = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(self.second(self.first(x).relu()).sigmoid().to(x.dtype))
        return torch.cat((boxes, scores), 1)


class FirstOnly(Cells):
    """Fills in the first picture of a batch only, as exports with a baked-in batch size do."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        output = torch.zeros(x.size(0), 7, boxes.size(2))
        output[0] = torch.cat((boxes, scores), 1)[0]
        return output


class FixedShape(Cells):
    """Takes one batch size and one input size only, and raises for others."""

    def __init__(self, batch: int, height: int, width: int) -> None:
        super().__init__()
        self.batch = batch
        self.height = height
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x.view(self.batch, 3, self.height, self.width))
        return torch.cat((boxes, scores), 1)


def tiny_ssd(classes: int = 5, side: int = 64, seed: int = 0) -> nn.Module:
    """torchvision's SSD with random weights on a backbone of two convolutions, in evaluation mode."""
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD, SSDHead

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, stride=8, padding=1)
            self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            a = self.first(x).relu()
            return {"0": a, "1": self.second(a)}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        anchors = DefaultBoxGenerator([[2], [2]])
        head = SSDHead([8, 8], anchors.num_anchors_per_location(), classes)
        ssd: nn.Module = SSD(Backbone(), anchors, (side, side), classes, head=head, score_thresh=0.01)
    return ssd.eval()


def script(module: nn.Module) -> torch.jit.ScriptModule:
    """``torch.jit.script`` without its remarks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted: torch.jit.ScriptModule = torch.jit.script(module.eval())
    return scripted


def save(module: nn.Module, path: Path, side_files: Mapping[str, Any] | None = None) -> Path:
    """Script and store a module; values of ``side_files`` become JSON unless they are text."""
    files = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (side_files or {}).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(script(module), str(path), _extra_files=files)
    return path


def save_cells(folder: Path, height: int = 64, width: int = 64) -> Path:
    """:class:`Cells` as a file that knows its input and its names."""
    return save(Cells(), folder / "cells.pt", ultralytics_metadata((height, width), NAMES))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:class:`Cells` of 64 x 64; of every test file that imports it."""
    return save_cells(tmp_path_factory.mktemp("model"))


def trace(
    module: nn.Module, spec: InputSpec, path: Path, side_files: Mapping[str, Any] | None = None, device: str = "cpu"
) -> Path:
    """Trace and store a module."""
    files = {key: json.dumps(value) for key, value in (side_files or {}).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module.eval().to(device), torch.rand(1, 3, *spec.shape[:2], device=device))
        torch.jit.save(traced, str(path), _extra_files=files)
    return path


def ultralytics_metadata(
    size: tuple[int, int], names: Mapping[int, str], *, nms: bool = False, batch: int = 1, **more: Any
) -> dict[str, Any]:
    """``config.txt`` with the keys that Ultralytics 8.4 writes."""
    return {
        "config.txt": {
            "description": "a tiny model of the tests",
            "author": "tests",
            "version": "8.4.0",
            "stride": 32,
            "task": "detect",
            "head": "Detect",
            "batch": batch,
            "imgsz": list(size),
            "names": {str(key): value for key, value in names.items()},
            "args": {"batch": batch, "nms": nms, "dynamic": False},
            "channels": 3,
            "end2end": False,
            **more,
        }
    }


def painted(spec: InputSpec, cells: Mapping[tuple[int, int], tuple[int, int, int]], grey: int = 20) -> Uint8Array:
    """A picture (height, width, 3) of one grey level with some 32 x 32 cells, by (row, column), in other colours."""
    picture = np.full(spec.shape, grey, np.uint8)
    for (row, column), colour in cells.items():
        picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = colour
    return picture


def batch_of(spec: InputSpec, *pictures: Uint8Array, size: int | None = None) -> Batch:
    """A batch of one frame per picture, as the scheduler would make it."""
    items = []
    for index, picture in enumerate(pictures):
        frame = Frame(StreamKey("test", 0), index, index, 0.0, None, 0, spec.width, spec.height, None, new_trace())
        items.append(Item(frame, spec, picture, Geometry(spec.width, spec.height, 1.0, 1.0)))
    return Batch(tuple(items), size or len(items), 0)
