# SPDX-License-Identifier: Apache-2.0
"""Text as smooth coverage masks from the glyphs in ``font/``: Latin, Greek, Cyrillic, where OpenCV has ASCII only."""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np

from pipeline.frame import Uint8Array

_GLYPHS = Path(__file__).parent / "font" / "glyphs.npz"


class _Strip:
    """The glyphs of the font, side by side in one picture."""

    def __init__(self) -> None:
        with np.load(_GLYPHS) as arrays:
            self.strip: Uint8Array = arrays["strip"]
            self.em = int(arrays["em"])
            self.bearing = int(arrays["bearing"])
            lefts = arrays["lefts"].tolist()
            codes = arrays["codes"].tolist()
            advances = arrays["advances"].tolist()
        self.cells = {
            chr(code): (lefts[n], lefts[n + 1], advance)
            for n, (code, advance) in enumerate(zip(codes, advances, strict=True))
        }


@cache
def _strip() -> _Strip:
    return _Strip()


def legible(text: str) -> str:
    """``text`` in letters that the font has: accents are dropped where it lacks them, other signs become ``?``."""
    cells = _strip().cells
    composed = unicodedata.normalize("NFC", text)
    shown = []
    for letter in composed:
        if letter in cells:
            shown.append(letter)
        elif not unicodedata.combining(letter):
            plain = unicodedata.normalize("NFKD", letter)[0]
            shown.append(plain if plain in cells else "?")
    return "".join(shown)


@lru_cache(maxsize=1024)
def text_mask(text: str, em: int) -> Uint8Array:
    """Coverage of ``text``, 0 to 255, with ``em`` pixels per em: (rows, columns), both even, with a small margin.

    Read-only and cached. The margin makes it fit to be the whole of a label chip.
    """
    strip = _strip()
    letters = [strip.cells[letter] for letter in legible(text)]
    width = sum(advance for _, _, advance in letters)
    rows = strip.strip.shape[0]
    line = np.zeros((rows, int(width) + 2 * strip.bearing + 2), np.uint8)
    at = 0.0
    for left, right, advance in letters:
        begin = round(at)
        cell = strip.strip[:, left:right]
        space = line[:, begin : begin + right - left]
        np.maximum(space, cell[:, : space.shape[1]], out=space)
        at += advance
    scale = em / strip.em
    inner_rows = max(2, round(rows * scale))
    inner_columns = max(2, round(line.shape[1] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(line, (inner_columns, inner_rows), interpolation=method)
    margin = max(1, round(em / 6))
    mask = np.zeros((_even(inner_rows + margin // 2), _even(inner_columns + 2 * margin)), np.uint8)
    left = (mask.shape[1] - inner_columns) // 2
    top = (mask.shape[0] - inner_rows) // 2
    mask[top : top + inner_rows, left : left + inner_columns] = small
    mask.setflags(write=False)
    return mask


def _even(number: int) -> int:
    return number + number % 2
