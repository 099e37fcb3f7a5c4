# SPDX-License-Identifier: Apache-2.0
"""Boxes and label chips, scaled to the picture and coloured by class, for videos, live views and stills."""

from __future__ import annotations

import math

import numpy as np

from pipeline.frame import Detections, Uint8Array
from pipeline.sinks.canvas import BgrCanvas, Canvas, Colour
from pipeline.sinks.lettering import text_mask

PALETTE = (
    Colour(0, 200, 150),  # class 0, people in most models: a green that neither skin nor street has
    Colour(255, 122, 48),
    Colour(64, 156, 255),
    Colour(255, 200, 40),
    Colour(232, 72, 160),
    Colour(150, 110, 255),
    Colour(40, 210, 225),
    Colour(240, 70, 70),
    Colour(170, 214, 60),
    Colour(200, 140, 90),
    Colour(255, 150, 190),
    Colour(120, 170, 170),
)
"""Class colours; class_id counts through them."""

_WHITE = Colour(255, 255, 255)
_BLACK = Colour(12, 16, 20)


def draw_detections(bgr: Uint8Array, detections: Detections, labels: dict[int, str]) -> Uint8Array:
    """Draw boxes and labels into ``bgr`` (rows, columns, 3), uint8, in place, and return it.

    ``detections`` are in the pixels of this picture. Raises ValueError for another shape, dtype or a read-only array.
    """
    if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8 or not bgr.flags.writeable:
        raise ValueError(f"expected a writable uint8 array (rows, columns, 3), found {bgr.dtype} {bgr.shape}")
    paint(BgrCanvas(bgr), detections, labels)
    return bgr


def paint(canvas: Canvas, detections: Detections, labels: dict[int, str]) -> None:
    """Draw all boxes, then all chips, the surest detection last and on top. Boxes that are not finite are left out."""
    side = min(canvas.width, canvas.height)
    line, em = line_width(side), text_size(side)
    classes, tracks = detections.class_id.tolist(), detections.track_id
    confidences, boxes = detections.confidence.tolist(), detections.xyxy.tolist()
    corners = {
        n: _snapped(boxes[n], line, canvas)
        for n in np.argsort(detections.confidence, kind="stable").tolist()
        if math.isfinite(sum(boxes[n]))
    }
    for n, (left, top, right, bottom) in corners.items():
        colour = PALETTE[classes[n] % len(PALETTE)]
        canvas.fill(left, top, right, min(top + line, bottom), colour)
        canvas.fill(left, max(bottom - line, top), right, bottom, colour)
        canvas.fill(left, top, min(left + line, right), bottom, colour)
        canvas.fill(max(right - line, left), top, right, bottom, colour)
    for n, (left, top, _, _) in corners.items():
        name = labels.get(classes[n]) or str(classes[n])
        track = "" if tracks is None or tracks[n] < 0 else f" #{tracks[n]}"
        chip(canvas, left, top, f"{name}{track}  {confidences[n]:.2f}", em, PALETTE[classes[n] % len(PALETTE)])


def chip(canvas: Canvas, left: int, bottom: int, text: str, em: int, paper: Colour) -> None:
    """Write ``text`` on a filled rectangle whose lower left corner is at (left, bottom), moved into the picture."""
    mask = text_mask(text, em)
    top = bottom - mask.shape[0]
    ink = _WHITE if luminance(paper) < 0.36 else _BLACK
    left = max(0, min(left, (canvas.width - mask.shape[1]) // 2 * 2))
    canvas.stamp(left, max(0, top), mask, ink, paper)


def caption(canvas: Canvas, text: str) -> None:
    """Write ``text`` small into the lower left corner."""
    chip(canvas, 0, canvas.height, text, text_size(min(canvas.width, canvas.height)), Colour(20, 24, 28))


def line_width(side: int) -> int:
    """Even width of a box's line for a picture whose shorter side has ``side`` pixels."""
    return 2 * max(1, round(side / 480))


def text_size(side: int) -> int:
    """Pixels per em of labels for a picture whose shorter side has ``side`` pixels."""
    return max(12, round(side / 42))


def luminance(colour: Colour) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2)."""
    linear = [(c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _snapped(xyxy: list[float], line: int, canvas: Canvas) -> tuple[int, int, int, int]:
    """The outer edges of a line centred on the box: even, so that colour planes of half the size line up; inside."""
    half = line / 2
    left, top = (2 * math.floor((value - half) / 2 + 0.5) for value in xyxy[:2])
    right, bottom = (2 * math.ceil((value + half) / 2 - 0.5) for value in xyxy[2:])
    across, down = canvas.width // 2 * 2, canvas.height // 2 * 2
    left, top = max(0, min(left, across)), max(0, min(top, down))
    return left, top, max(left, min(right, across)), max(top, min(bottom, down))
