# SPDX-License-Identifier: Apache-2.0
"""Renders ``glyphs.npz`` anew: ``python -m pipeline.sinks.font.render Roboto-Medium.ttf`` (needs Pillow)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

EM = 48
"""Size of the strip's letters in pixels per em; larger than nearly every use, since shrinking keeps edges smooth."""

ALPHABET = (
    [chr(code) for code in range(0x20, 0x7F)]  # ASCII
    + [chr(code) for code in range(0xA0, 0x180)]  # Latin-1 and Latin Extended-A
    + [chr(code) for code in range(0x386, 0x3CF)]  # Greek
    + [chr(code) for code in range(0x400, 0x460)]  # Cyrillic
    + list("Ґґ–—‘’“”„†•…‰€№™−≈≠≤≥")  # noqa: RUF001 (these letters are meant)
)


def render(font_file: Path) -> dict[str, Any]:
    """The arrays of the strip.

    ``codes`` (n,); ``lefts`` (n + 1,), the columns at which glyphs' cells begin; ``advances`` (n,) in pixels;
    ``bearing``, columns from a cell's left edge to its origin; ``em``; ``strip`` (rows, columns) uint8.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(font_file), EM)
    ascent, descent = font.getmetrics()
    bearing = EM // 8
    missing = font.getmask("\uffff").getbbox(), bytes(font.getmask("\uffff"))
    cells: list[Any] = []
    codes: list[int] = []
    advances: list[float] = []
    for letter in ALPHABET:
        mask = font.getmask(letter)
        if (mask.getbbox(), bytes(mask)) == missing:
            continue
        advance = font.getlength(letter)
        cell = Image.new("L", (int(advance + 0.999) + 2 * bearing, ascent + descent))
        ImageDraw.Draw(cell).text((bearing, 0), letter, fill=255, font=font)
        # Sixteen grey levels are enough for letters that are shrunk afterwards, and compress to a third.
        cells.append((np.asarray(cell).astype(np.uint16) + 8) // 17 * 17)
        codes.append(ord(letter))
        advances.append(advance)
    widths = np.array([cell.shape[1] for cell in cells])
    return {
        "em": np.int32(EM),
        "bearing": np.int32(bearing),
        "codes": np.array(codes, np.int32),
        "lefts": np.concatenate([[0], np.cumsum(widths)]).astype(np.int32),
        "advances": np.array(advances, np.float32),
        "strip": np.concatenate(cells, axis=1).astype(np.uint8),
    }


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).with_name("glyphs.npz"), **render(Path(sys.argv[1])))
