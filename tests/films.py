# SPDX-License-Identifier: Apache-2.0
"""Pictures that carry their number, so that a film tells which frames it holds."""

from __future__ import annotations

import numpy as np

from pipeline.frame import Detections, Picture, Result

WIDTH, HEIGHT, BITS = 96, 64, 12


def numbered(frame: int, pts: float, *, stream: str = "cam", wall_ns: int | None = None, width: int = WIDTH) -> Result:
    """A result whose picture shows the ``BITS`` bits of its number as bars, dark for 0 and bright for 1."""
    bars = np.array([frame >> bit & 1 for bit in range(BITS)], np.uint8) * 150 + 50
    luma = np.repeat(np.repeat(bars, width // BITS)[None, :], HEIGHT, axis=0)
    chroma = np.full((HEIGHT // 2, width // 2), 128, np.uint8)
    shown = Picture((np.ascontiguousarray(luma), chroma, chroma), "yuv", "bt601")
    return Result(stream, frame, pts, wall_ns, width, HEIGHT, Detections.empty(), {}, picture=shown)


def number_of(luma: np.ndarray) -> int:
    """The number that a decoded picture (uint8, height x width) shows."""
    bars = luma.reshape(luma.shape[0], BITS, -1).mean(axis=(0, 2))
    return sum(int(bar > 125) << bit for bit, bar in enumerate(bars))
