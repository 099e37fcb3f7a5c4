# SPDX-License-Identifier: Apache-2.0
"""Detectors of several classes of networks, made in seconds: random layers, and a head fitted to them by least squares.

They find bright squares on a dark, noisy ground, so that their boxes depend on every layer, as a trained network's do.
The speed of a network does not depend on its weights. Nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from pipeline.detectors.torch_messages import quiet
from pipeline.frame import Uint8Array

SIDE = 320
STRIDE = 32
CELLS = SIDE // STRIDE
COLOURS = ((230, 60, 50), (60, 220, 70), (60, 80, 235))
NAMES = {"0": "red", "1": "green", "2": "blue"}


class Csp(nn.Module):
    """A stage of a small YOLO: a strided convolution, a split, two residual convolutions, concatenation; SiLU."""

    def __init__(self, wide: int, wider: int) -> None:
        super().__init__()
        half = wider // 2
        self.down = _conv(wide, wider, 3, 2)
        self.split, self.merge = _conv(wider, wider, 1), _conv(2 * wider, wider, 1)
        self.inner = nn.ModuleList([nn.Sequential(_conv(half, half, 3), _conv(half, half, 3)) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.split(self.down(x)).chunk(2, 1))
        for inner in self.inner:
            parts.append(parts[-1] + inner(parts[-1]))
        return self.merge(torch.cat(parts, 1))


def _conv(wide: int, wider: int, size: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(wide, wider, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(wider), nn.SiLU(inplace=True))


class Detector(nn.Module):
    """(B, 3, H, W) in 0..1 to (B, 4 + 3, anchors), as Ultralytics' detectors: an anchor per cell of 32 pixels."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Conv2d(width, 7, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = self.head(self.body(x))
        rows, columns = found.size(2), found.size(3)
        cy = (torch.arange(rows) * 32.0 + 16.0)[:, None].expand(rows, columns).flatten()
        cx = (torch.arange(columns) * 32.0 + 16.0)[None, :].expand(rows, columns).flatten()
        flat = found.flatten(2)
        centre = torch.stack((cx, cy))[None] + flat[:, :2] * 32.0
        size = 48.0 * flat[:, 2:4].exp()
        return torch.cat((centre, size, (flat[:, 4:] * 8.0 - 4.0).sigmoid()), 1)


def _mobilenet() -> Detector:
    return Detector(torchvision.models.mobilenet_v3_large(weights=None).features, 960)


def _shufflenet() -> Detector:
    net = torchvision.models.shufflenet_v2_x1_0(weights=None)
    return Detector(nn.Sequential(net.conv1, net.maxpool, net.stage2, net.stage3, net.stage4, net.conv5), 1024)


def _resnet() -> Detector:
    return Detector(nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-2]), 512)


def _csp() -> Detector:
    return Detector(nn.Sequential(_conv(3, 16, 3, 2), Csp(16, 32), Csp(32, 64), Csp(64, 128), Csp(128, 256)), 256)


TRACED: dict[str, Callable[[], Detector]] = {
    "mobilenet": _mobilenet,
    "shufflenet": _shufflenet,
    "resnet": _resnet,
    "csp": _csp,
}


def save(name: str, folder: Path) -> Path:
    """The file of a traced detector, made if it is not there yet."""
    path = folder / f"{name}.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        facts = {"stride": STRIDE, "task": "detect", "batch": 1, "imgsz": [SIDE, SIDE], "names": NAMES}
        facts |= {"args": {"batch": 1, "nms": False, "dynamic": True}, "channels": 3, "end2end": False}
        with quiet():
            traced = torch.jit.trace(fitted(TRACED[name]), torch.rand(1, 3, SIDE, SIDE))
            torch.jit.save(traced, str(path), _extra_files={"config.txt": json.dumps(facts)})
    return path


def save_ssdlite(folder: Path) -> Path:
    """torchvision's SSDLite320 as a script: resizing, anchors and suppression are inside."""
    path = folder / "ssdlite.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        make = torchvision.models.detection.ssdlite320_mobilenet_v3_large
        with quiet():
            torch.jit.save(torch.jit.script(make(weights=None, weights_backbone=None).eval()), str(path))
    return path


def film(folder: Path, count: int = 64) -> Path:
    """A clip of scenes that no detector was fitted to, 320 x 320."""
    path = folder / "squares.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=30, options={"crf": "12"})
            stream.width = stream.height = SIDE
            stream.pix_fmt = "yuv420p"
            for seed in range(1000, 1000 + count):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(seed)[0], "rgb24")))
            container.mux(stream.encode())
    return path


def scene(seed: int) -> tuple[Uint8Array, list[tuple[float, float, float, int]]]:
    """A picture (320, 320, 3) RGB, and its squares: centre x, centre y, side in pixels, class."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(15, 55, (SIDE, SIDE, 3)).astype(np.uint8)
    squares: list[tuple[float, float, float, int]] = []
    for _ in range(7):
        size = int(rng.integers(36, 60))
        left, top = (int(value) for value in rng.integers(0, SIDE - size, 2))
        centre = (left + size / 2, top + size / 2)
        if all(abs(centre[0] - x) + abs(centre[1] - y) > 100 for x, y, _, _ in squares):
            name = int(rng.integers(0, 3))
            picture[top : top + size, left : left + size] = COLOURS[name]
            squares.append((*centre, float(size), name))
    return picture, squares


def fitted(build: Callable[[], Detector], scenes: int = 96) -> Detector:
    """A detector that finds the squares, in evaluation mode; the same at every call."""
    torch.manual_seed(0)
    detector = build()
    for layer in detector.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in")
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean over all batches
    drawn = [scene(seed) for seed in range(scenes)]
    given = torch.from_numpy(np.stack([picture for picture, _ in drawn])).permute(0, 3, 1, 2).float() / 255.0
    with torch.no_grad():
        detector.train()
        for part in given[:32].split(8):
            detector.body(part)
        detector.eval()
        features = torch.cat([detector.body(part) for part in given.split(8)]).permute(0, 2, 3, 1)
    target = torch.zeros(scenes, CELLS, CELLS, 7)
    weight = torch.ones(scenes, CELLS, CELLS, 7)
    weight[..., :4] = 0.0
    for number, (_, squares) in enumerate(drawn):
        for x, y, size, name in squares:
            row, column = int(y // STRIDE), int(x // STRIDE)
            offset = [(x - column * STRIDE - 16) / 32, (y - row * STRIDE - 16) / 32]
            target[number, row, column, :4] = torch.tensor([*offset, np.log(size / 48), np.log(size / 48)])
            weight[number, row, column, :4] = 1.0
            target[number, row, column, 4 + name] = 1.0
            weight[number, row, column, 4:] = 8.0
    design = torch.cat((features, torch.ones_like(features[..., :1])), -1).flatten(0, 2).double()
    eye = torch.eye(design.size(1)).double()
    with torch.no_grad():
        for output in range(7):
            by = weight[..., output].flatten().double()[:, None]
            gram = design.T @ (design * by)
            ridge = 1e-3 * float(gram.diagonal().mean())
            wanted = target[..., output].flatten().double()[:, None] * by
            solution = torch.linalg.solve(gram + ridge * eye, design.T @ wanted)
            detector.head.weight[output, :, 0, 0] = solution[:-1, 0].float()
            detector.head.bias[output] = solution[-1, 0].float()
    return detector.eval()
