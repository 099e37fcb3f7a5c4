# SPDX-License-Identifier: Apache-2.0
"""The people detector as one scriptable module: uint8 pictures in, windows above the threshold out."""

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.detectors.people.descriptor import block_features, block_taps, gradients, ramp_mix, root_table
from pipeline.detectors.people.weights import load_weights


class HogPeople(nn.Module):
    """HOG + linear SVM over an image pyramid.

    Args:
        levels: scale and padding of each level of the pyramid, ascending. Scale: pixels of the picture per pixel of the
            level; below 1 the picture is enlarged. Padding: pixels added on every side of the level, a multiple of 8.
            Levels into which no window fits are left out.
        threshold: least SVM margin of a returned window.
        like_opencv: True pads by reflection, as OpenCV does, drops the odd pixels at the right and at the bottom and
            resizes exactly; False repeats the edge, adds those pixels instead, so that windows reach both far sides,
            and resizes fast.
    """

    CELL: Final[int] = 8
    WINDOW_WIDTH: Final[int] = 64
    WINDOW_HEIGHT: Final[int] = 128
    svm: Tensor
    taps: Tensor
    mix: Tensor
    roots: Tensor

    def __init__(self, levels: list[tuple[float, int]], threshold: float = 0.0, like_opencv: bool = False) -> None:
        super().__init__()
        for scale, padding in levels:
            if scale <= 0.0 or padding < 0 or padding % self.CELL:
                raise ValueError(f"level {scale}, {padding}: need a scale > 0 and a padding that is a multiple of 8")
        weights, bias = load_weights()
        # (7, 15, 2, 2, 9) -> one output channel per block row; see `scores`.
        rows = torch.from_numpy(weights).permute(1, 2, 3, 4, 0).reshape(15, 36, 1, 7)
        self.register_buffer("svm", rows.contiguous())
        self.register_buffer("taps", block_taps())
        self.register_buffer("mix", ramp_mix())
        self.register_buffer("roots", root_table())
        self.bias = bias
        self.levels = [(float(scale), int(padding)) for scale, padding in levels]
        self.threshold = threshold
        self.like_opencv = like_opencv
        self.exact_resize = like_opencv
        self.strip_pixels = 80_000

    def forward(self, images: Tensor) -> Tensor:
        """Find windows that look like a person.

        `images`: uint8 (B, 3, H, W), RGB, any memory layout. Returns float32 (B, K, 6), rows x1, y1, x2, y2, margin, 0:
        whole 64x128 windows in pixels of the input (they may reach outside), best first. K is the largest count of the
        batch (0 if nothing was found); shorter lists end with rows of zeros whose margin is -inf.
        On a CPU pictures are worked on one by one, so a result does not depend on its batch-mates in any bit.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.size(1) != 3:
            raise ValueError("builtin:people takes uint8 images of shape (B, 3, H, W)")
        found: list[Tensor] = []
        if images.device.type == "cpu":
            for i in range(images.size(0)):
                found.append(self.windows(images[i : i + 1])[0])
        else:
            found = self.windows(images)
        longest = 0
        for rows in found:
            longest = max(longest, rows.size(0))
        result = torch.zeros((images.size(0), longest, 6), dtype=torch.float32, device=images.device)
        result[:, :, 4] = -math.inf
        for i, rows in enumerate(found):
            result[i, : rows.size(0)] = rows
        return result

    def windows(self, images: Tensor) -> list[Tensor]:
        """Return, for each picture, float32 (n, 6) windows above the threshold, best first."""
        batch, height, width = images.size(0), images.size(2), images.size(3)
        images = images.contiguous(memory_format=torch.channels_last)
        pieces: list[Tensor] = []
        owners: list[Tensor] = []
        for scale, padding in self.levels:
            rows, columns = round_half_even(height / scale), round_half_even(width / scale)
            if rows + 2 * padding < self.WINDOW_HEIGHT or columns + 2 * padding < self.WINDOW_WIDTH:
                continue
            level = resize(images, rows, columns, self.exact_resize or images.device.type != "cpu")
            scores = self.score_map(level, padding)
            at = torch.nonzero(scores >= self.threshold)
            corner = (at[:, 1:3] * self.CELL - padding).to(torch.float32) * scale
            x, y = corner[:, 1], corner[:, 0]
            margin = scores[at[:, 0], at[:, 1], at[:, 2]]
            right, bottom = x + self.WINDOW_WIDTH * scale, y + self.WINDOW_HEIGHT * scale
            pieces.append(torch.stack([x, y, right, bottom, margin, torch.zeros_like(margin)], 1))
            owners.append(at[:, 0])
        if len(pieces) == 0:
            return [torch.zeros((0, 6), device=images.device) for _ in range(batch)]
        found, owner = torch.cat(pieces), torch.cat(owners)
        order = torch.argsort(found[:, 4], descending=True, stable=True)
        found, owner = found[order], owner[order]
        return [found[owner == i] for i in range(batch)]

    @torch.jit.export
    def score_map(self, level: Tensor, padding: int) -> Tensor:
        """SVM margins of every window of one pyramid level.

        `level`: uint8 (B, 3, H, W), RGB. Returns float32 (B, rows, columns); window (r, c) has its top left corner at
        (8 c - padding, 8 r - padding). With `like_opencv` this is `cv2.HOGDescriptor.detect` with
        winStride (8, 8) and this padding.
        """
        edge = padding + 1  # one more pixel for the central difference
        rows = (level.size(2) + 2 * padding) // self.CELL * self.CELL
        columns = (level.size(3) + 2 * padding) // self.CELL * self.CELL
        if self.like_opencv:
            level = functional.pad(level.to(torch.float32), [edge, edge, edge, edge], mode="reflect").to(torch.uint8)
            level = level[:, :, : rows + 2, : columns + 2]
            level = repeat_edge(level, 0, 0, rows + 3, columns + 8)
        else:
            rows += self.CELL * int(level.size(2) % self.CELL != 0)
            columns += self.CELL * int(level.size(3) % self.CELL != 0)
            level = repeat_edge(level, edge, edge, rows + 3, columns + 8)
        return self.scores(self.features(level))

    def features(self, canvas: Tensor) -> Tensor:
        """Block features of a padded level.

        `canvas`: uint8 (B, 3, rows + 3, columns + 8), with one pixel of border above and to the left; the surplus lets
        rows be taken as flat memory. Returns float32 (B, 36, rows / 8 - 1, columns / 8 - 1).
        """
        batch, rows, pitch = canvas.size(0), canvas.size(2) - 3, canvas.size(3)
        # Strips of rows keep the working set near the cache; neighbours share one row of cells.
        strip = rows
        if canvas.device.type == "cpu":
            strip = min(rows, max(self.strip_pixels // pitch // self.CELL * self.CELL, 2 * self.CELL))
        # One piece of memory for everything large: to ask for it again in every step costs more than some of the steps.
        pixels = batch * strip * pitch
        work = torch.empty(15 * pixels + 3 * batch * (strip + 3) * pitch, device=canvas.device)
        strips: list[Tensor] = []
        top = 0
        while top < rows - self.CELL:
            height = min(strip, rows - top)
            codes = canvas[:, :, top : top + height + 3].to(torch.int32).reshape(-1)
            roots = work[15 * pixels : 15 * pixels + codes.size(0)]
            torch.index_select(self.roots, 0, codes, out=roots)
            votes = gradients(roots.view(batch, 3, -1), pitch, work)
            strips.append(block_features(votes, pitch, self.mix, self.taps, work))
            top += height - self.CELL
        return torch.cat(strips, 2)

    def scores(self, features: Tensor) -> Tensor:
        """The linear SVM as one convolution. `features`: float32 (B, 36, h, w); returns (B, h - 14, w - 6).

        A convolution with a single output channel leaves most of a vector unit idle. So each of the 15 block rows of
        the window is an output channel of one 1 x 7 convolution, and the 15 results are added along the diagonal.
        """
        rows = functional.conv2d(features, self.svm).contiguous()
        batch, height, width = rows.size(0), rows.size(2), rows.size(3)
        plane = height * width
        diagonal = rows.as_strided([batch, 15, height - 14, width], [15 * plane, plane + width, width, 1])
        return diagonal.sum(1).add_(self.bias)


def resize(images: Tensor, height: int, width: int, exact: bool) -> Tensor:
    """Bilinear with half-pixel centres, rounded to uint8, as `cv2.resize` with INTER_LINEAR_EXACT.

    `exact` rounds once, like OpenCV (1 % of the pixels differ, by 1). Otherwise torch's uint8 kernel, which only a CPU
    has, rounds after each axis (13 to 20 % differ, by 1) in a quarter of the time.
    """
    if images.size(2) == height and images.size(3) == width:
        return images
    if exact:
        images = images.to(torch.float32)
    resized = functional.interpolate(images, size=[height, width], mode="bilinear", align_corners=False)
    return resized.round().to(torch.uint8) if exact else resized


def repeat_edge(images: Tensor, left: int, top: int, rows: int, columns: int) -> Tensor:
    """Return a contiguous (B, C, rows, columns) with `images` at (top, left) and their outermost pixels all around.

    Works on uint8, which torch's own replication padding does not.
    """
    height, width = images.size(2), images.size(3)
    padded = torch.empty((images.size(0), images.size(1), rows, columns), dtype=images.dtype, device=images.device)
    band = padded[:, :, top : top + height]
    band[:, :, :, left : left + width] = images
    band[:, :, :, :left] = images[:, :, :, :1]
    band[:, :, :, left + width :] = images[:, :, :, -1:]
    padded[:, :, :top] = padded[:, :, top : top + 1]
    padded[:, :, top + height :] = padded[:, :, top + height - 1 : top + height]
    return padded


def round_half_even(value: float) -> int:
    """Round as OpenCV's cvRound: to the nearest, halves to the even neighbour."""
    nearest = math.floor(value + 0.5)
    if nearest - value == 0.5 and nearest % 2 == 1:
        nearest -= 1
    return nearest
