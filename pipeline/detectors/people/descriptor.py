# SPDX-License-Identifier: Apache-2.0
"""Histograms of oriented gradients as tensor arithmetic that TorchScript can compile, number for number as in OpenCV.

The method is Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005; the details that
the paper leaves open (borders, epsilons, the arctangent) follow OpenCV's modules/objdetect/src/hog.cpp. TorchScript
does not see module constants, so compiled functions spell out: a cell is 8 x 8 pixels, a block 2 x 2 cells, and there
are 9 unsigned orientation bins of 20 degrees.
"""

import numpy as np
import torch
from torch import Tensor


def root_table() -> Tensor:
    """Square roots of 0..255, float32 (256,), correctly rounded.

    A table, because torch.sqrt may be one unit off in the last place (MKL), enough to tip a tie between two colour
    channels the other way than OpenCV does, and with it a whole gradient.
    """
    return torch.from_numpy(np.sqrt(np.arange(256, dtype=np.float32)))


def block_taps() -> Tensor:
    """Weights of a chunk of 8 pixels along one axis in the blocks that it belongs to, float32 (4, 8).

    Rows: first and second cell of the block that begins with this chunk, first and second cell of the block that ends
    with it. A weight is the Gaussian of the block (sigma 4, centred on pixel 8 as in OpenCV) times the linear share of
    the cell; both factors separate into x and y, so the same taps serve both axes.
    """
    pixel = np.arange(16, dtype=np.float64)
    gauss = np.exp(-((pixel - 8.0) ** 2) / (2.0 * 4.0**2))
    centre = (pixel + 0.5) / 8.0 - 0.5
    first = gauss * np.clip(1.0 - np.abs(centre), 0.0, 1.0)
    second = gauss * np.clip(1.0 - np.abs(centre - 1.0), 0.0, 1.0)
    rows = [first[:8], second[:8], first[8:], second[8:]]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def ramp_mix() -> Tensor:
    """Coefficients of (magnitude, magnitude x position) that give magnitude x (position - k) for k = 1..8, (8, 2)."""
    return torch.tensor([[-float(k), 1.0] for k in range(1, 9)], dtype=torch.float32)


def gradients(roots: Tensor, pitch: int, work: Tensor) -> Tensor:
    """Magnitude and orientation of the strongest colour channel's gradient.

    `roots`: float32 (B, 3, (rows + 3) * pitch), the flattened square roots of R, G, B in rows of `pitch` pixels, with
    one pixel of border above, to the left and below; what the last row holds does not matter. `work`: float32, flat,
    room for 8 x B x rows x pitch. Returns float32 (2, B, rows * pitch), the first quarter of that: the magnitude, and
    magnitude x position, where position in [0, 9) counts bins (a whole number is the centre of a bin, 8.5 lies between
    bins 8 and 0). The two last values of each row mix the ends of two rows and mean nothing.
    Flat rows let every operation run over contiguous memory. Choices are made with 0/1 masks and `lerp`, which is
    exact there and vectorised, unlike `where`.
    """
    count = roots.size(2) - 3 * pitch
    middle, low = pitch, 2 * pitch + 1
    high = 1
    planes = work[: 8 * roots.size(0) * count].view(8, roots.size(0), count)
    square, mask = planes[0], planes[1]
    x, y, dx, dy, other, spare = planes[2], planes[3], planes[4], planes[5], planes[6], planes[7]
    red = roots[:, 0]
    torch.sub(red[:, middle + 2 : middle + 2 + count], red[:, middle : middle + count], out=x)
    torch.sub(red[:, low : low + count], red[:, high : high + count], out=y)
    torch.mul(x, x, out=square)
    torch.mul(y, y, out=spare)
    square.add_(spare)  # not addcmul: a fused product rounds differently from OpenCV's and tips ties
    for channel in range(1, 3):
        plane = roots[:, channel]
        torch.sub(plane[:, middle + 2 : middle + 2 + count], plane[:, middle : middle + count], out=dx)
        torch.sub(plane[:, low : low + count], plane[:, high : high + count], out=dy)
        torch.mul(dx, dx, out=other)
        torch.mul(dy, dy, out=spare)
        other.add_(spare)
        torch.gt(square, other, out=mask)
        torch.lerp(dx, x, mask, out=x)
        torch.lerp(dy, y, mask, out=y)
        torch.maximum(square, other, out=square)
    square.sqrt_()
    # The ratio of the smaller to the larger component keeps the polynomial in its range; a steep gradient turns by
    # 90 degrees (4.5 bins) and its ratio changes sign.
    torch.abs(x, out=dx)
    torch.abs(y, out=dy)
    torch.gt(dy, dx, out=mask)
    torch.lerp(y, x, mask, out=spare)
    torch.lerp(x, y.neg_(), mask, out=other)
    ratio = spare.div_(other.add_(1e-30))
    torch.mul(ratio, ratio, out=other)
    # OpenCV's odd polynomial for the arctangent (core: fastAtan2, good to 0.01 degrees), Horner form, in units of bins.
    p1, p3, p5, p7 = 0.9997878412794807, -0.3258083974640975, 0.1555786518463281, -0.04432655554792128
    bins = torch.add(other, p5 / p7, out=x)
    bins.mul_(other).add_(p3 / p7).mul_(other).add_(p1 / p7).mul_(ratio).mul_(p7 * 9.0 / 3.141592653589793)
    bins.add_(mask, alpha=4.5)
    torch.lt(bins, 0.5, out=mask)
    bins.add_(mask, alpha=9.0).sub_(0.5)
    torch.mul(bins, square, out=planes[1])
    return planes[:2]


def block_features(votes: Tensor, pitch: int, mix: Tensor, taps: Tensor, work: Tensor) -> Tensor:
    """Normalised block histograms of one picture or strip.

    `votes`: float32 (2, B, rows * pitch) as `gradients` leaves them at the beginning of `work`; rows and pitch are
    multiples of 8. `mix` from `ramp_mix`, `taps` from `block_taps`. `work`: float32, flat, room for 15 x B x rows x
    pitch. Returns float32 (B, 36, rows / 8 - 1, pitch / 8 - 2), channels ordered cell column, cell row, bin; the last 8
    columns of pixels are only there for the pitch and belong to no block.
    A vote shared between two neighbouring bins is the second difference of the ramps max(position - k, 0). Sums commute
    with differences, so the ramps are summed over the cells first and subtracted there, on 1/64 of the data.
    """
    batch, pixels = votes.size(1), votes.size(1) * votes.size(2)
    columns = pitch // 8
    ramps = torch.mm(mix, votes.view(2, -1), out=work[2 * pixels : 10 * pixels].view(8, -1))
    ramps.relu_()
    chunks = work[: 10 * pixels].view(-1, 8, pitch)
    tall = torch.bmm(taps.expand(chunks.size(0), 4, 8), chunks, out=work[10 * pixels : 15 * pixels].view(-1, 4, pitch))
    sums = tall.view(10, batch, -1, 4, pitch)
    rows = sums.size(2) - 1
    half = work[: 20 * batch * rows * pitch].view(10, batch, rows, 2, pitch)
    cells = torch.add(sums[:, :, :-1, 0:2], sums[:, :, 1:, 2:4], out=half)
    parts = torch.mm(taps, cells.view(-1, 8).t()).view(4, 10, batch, rows, 2, columns)
    both = parts[0:2, :, :, :, :, :-2] + parts[2:4, :, :, :, :, 1:-1]
    both = both.permute(2, 0, 4, 1, 3, 5)  # batch, cell column, cell row, ramp, block row, block column
    total, first, ramps = both[:, :, :, 0], both[:, :, :, 1], both[:, :, :, 2:]
    histogram = torch.empty((batch, 2, 2, 9, rows, columns - 2), dtype=votes.dtype, device=votes.device)
    histogram[:, :, :, 0] = total - first + ramps[:, :, :, 0] + ramps[:, :, :, 7]
    histogram[:, :, :, 1] = first - 2.0 * ramps[:, :, :, 0] + ramps[:, :, :, 1]
    histogram[:, :, :, 2:8] = ramps[:, :, :, 0:6] - 2.0 * ramps[:, :, :, 1:7] + ramps[:, :, :, 2:8]
    histogram[:, :, :, 8] = ramps[:, :, :, 6] - 2.0 * ramps[:, :, :, 7]
    return l2_hys(histogram.view(batch, 36, rows, columns - 2))


def l2_hys(histogram: Tensor) -> Tensor:
    """Normalise, clip at 0.2 and normalise again over dimension 1, in place, with OpenCV's two epsilons."""
    norm = (histogram * histogram).sum(1, keepdim=True).sqrt_().add_(3.6)
    histogram.div_(norm).clamp_(max=0.2)
    norm = (histogram * histogram).sum(1, keepdim=True).sqrt_().add_(1e-3)
    return histogram.div_(norm)
