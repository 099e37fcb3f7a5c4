# SPDX-License-Identifier: Apache-2.0
"""Small detectors that really find something: random layers, and a head fitted to them by least squares in a moment.

They find bright squares on a dark ground (:func:`scene`), one class per colour; so their boxes depend on every layer,
as those of a trained network do, and nothing has to be downloaded.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.frame import Uint8Array
from tests.media import VideoFrame, encode

SIDE = 128
STRIDE = 16
COLOURS = ((230, 60, 50), (60, 220, 70), (60, 80, 235))


class Residual(nn.Module):
    """As in ResNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.second, self.other = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm(self.first(x)))
        return self.relu(x + self.other(self.second(y)))


class Inverted(nn.Module):
    """As in MobileNetV3: a depthwise convolution, squeeze-and-excitation, hard-swish."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.norm = nn.Conv2d(width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)
        self.depth = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.pool, self.squeeze = nn.AdaptiveAvgPool2d(1), nn.Conv2d(2 * width, width, 1)
        self.excite, self.gate = nn.Conv2d(width, 2 * width, 1), nn.Hardsigmoid()
        self.down, self.act = nn.Conv2d(2 * width, width, 1), nn.Hardswish()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.depth(self.act(self.norm(self.up(x)))))
        y = y * self.gate(self.excite(self.squeeze(self.pool(y)).relu()))
        return x + self.down(y)


class Csp(nn.Module):
    """As in Ultralytics' networks: SiLU, a split, concatenation."""

    def __init__(self, width: int, act: nn.Module) -> None:
        super().__init__()
        self.inner, self.norm = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False), nn.BatchNorm2d(width // 2)
        self.merge = nn.Conv2d(3 * width // 2, width, 1)
        self.act = act  # shared by all blocks, as there: traced methods then take modules as arguments

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return self.act(self.merge(torch.cat((left, right, right + self.act(self.norm(self.inner(right)))), 1)))


class Detector(nn.Module):
    """(B, 3, H, W) in 0..1 to (B, 4 + 3, anchors): one anchor per cell of 16 pixels."""

    def __init__(self, kind: str, width: int = 32) -> None:
        super().__init__()
        act = nn.SiLU()
        block = {"resnet": Residual, "mobilenet": Inverted}.get(kind)
        body: list[nn.Module] = [nn.Conv2d(3, width, 3, stride=2, padding=1), nn.ReLU()]
        for _ in range(3):
            body += [nn.Conv2d(width, width, 3, stride=2, padding=1), act if block is None else nn.ReLU()]
            body.append(Csp(width, act) if block is None else block(width))
        self.body = nn.Sequential(*body)
        self.head = nn.Conv2d(width, 7, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = self.head(self.body(x))
        rows, columns = found.size(2), found.size(3)
        cy = (torch.arange(rows, device=x.device) * 16.0 + 8.0)[:, None].expand(rows, columns).flatten()
        cx = (torch.arange(columns, device=x.device) * 16.0 + 8.0)[None, :].expand(rows, columns).flatten()
        flat = found.flatten(2)
        centre = torch.stack((cx, cy))[None] + flat[:, :2] * 16.0
        size = 24.0 * flat[:, 2:4].exp()
        return torch.cat((centre, size, (flat[:, 4:] * 8.0 - 4.0).sigmoid()), 1)


def scene(seed: int, side: int = SIDE) -> tuple[Uint8Array, list[tuple[float, float, float, int]]]:
    """A picture (side, side, 3) RGB, and its squares: centre x, centre y, side in pixels, class."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(15, 55, (side, side, 3)).astype(np.uint8)
    squares: list[tuple[float, float, float, int]] = []
    for _ in range(4):
        size = int(rng.integers(20, 34))
        left, top = (int(value) for value in rng.integers(0, side - size, 2))
        centre = (left + size / 2, top + size / 2)
        if all(abs(centre[0] - x) + abs(centre[1] - y) > 56 for x, y, _, _ in squares):
            name = int(rng.integers(0, 3))
            picture[top : top + size, left : left + size] = COLOURS[name]
            squares.append((*centre, float(size), name))
    return picture, squares


@functools.cache
def fitted(kind: str, width: int = 32, scenes: int = 160) -> Detector:
    """A detector of ``kind`` (resnet, mobilenet, csp) that finds the squares; the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = Detector(kind, width)
        for layer in detector.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in")
        drawn = [scene(seed) for seed in range(scenes)]
        given = torch.from_numpy(np.stack([picture for picture, _ in drawn])).permute(0, 3, 1, 2).float() / 255.0
        with torch.no_grad():
            detector.train()
            detector.body(given[:32])  # statistics of batch normalisation
            detector.eval()
            features = detector.body(given).permute(0, 2, 3, 1)
        cells = SIDE // STRIDE
        target = torch.zeros(scenes, cells, cells, 7)
        weight = torch.full((scenes, cells, cells, 7), 1.0)
        weight[..., :4] = 0.0
        for number, (_, squares) in enumerate(drawn):
            for x, y, size, name in squares:
                row, column = int(y // STRIDE), int(x // STRIDE)
                target[number, row, column, :4] = torch.tensor(
                    [(x - column * 16 - 8) / 16, (y - row * 16 - 8) / 16, np.log(size / 24), np.log(size / 24)]
                )
                weight[number, row, column, :4] = 1.0
                target[number, row, column, 4 + name] = 1.0
                weight[number, row, column, 4:] = 8.0
        design = torch.cat((features, torch.ones_like(features[..., :1])), -1).flatten(0, 2).double()
        for output in range(7):
            by = weight[..., output].flatten().double()[:, None]
            gram = design.T @ (design * by) + 1e-3 * torch.eye(design.size(1)).double()
            solution = torch.linalg.solve(gram, design.T @ (target[..., output].flatten().double()[:, None] * by))
            with torch.no_grad():
                detector.head.weight[output, :, 0, 0] = solution[:-1, 0].float()
                detector.head.bias[output] = solution[-1, 0].float()  # type: ignore[index]
    return detector.eval()


def film(path: Path, count: int = 16, first: int = 1000) -> Path:
    """A clip of scenes that no detector was fitted to."""

    def frames() -> Iterator[VideoFrame]:
        for seed in range(first, first + count):
            yield VideoFrame.from_ndarray(scene(seed)[0], "rgb24").reformat(format="yuv420p")

    return encode(path, frames())
