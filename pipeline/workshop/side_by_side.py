# SPDX-License-Identifier: Apache-2.0
"""Frames on which two detectors differ, as pictures: A's boxes on the left, B's on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import SinkError
from pipeline.figures import percent
from pipeline.frame import Capture, Detections, Uint8Array
from pipeline.sinks.canvas import BgrCanvas
from pipeline.sinks.drawing import caption, paint
from pipeline.stages.display import full_picture
from pipeline.workshop.compare import Comparison

WIDTH = 960
"""Columns of each half, at most."""


def save_worst(comparison: Comparison, captures: Sequence[Capture], folder: Path, count: int) -> list[Path]:
    """Write ``worst-1.png``, ... into ``folder``, the least agreeing frame first.

    Raises:
        SinkError: a picture cannot be written.
    """
    paths = []
    for rank, index in enumerate(comparison.agreement.worst(count), 1):
        path = folder / f"worst-{rank}.png"
        _write(path, draw(comparison, captures[index], index))
        paths.append(path)
    return paths


def draw(comparison: Comparison, capture: Capture, index: int) -> Uint8Array:
    """Both halves, (rows, columns, 3) uint8 BGR; ``index`` is the frame's place in the sample."""
    picture = full_picture(capture.picture)
    scale = min(1.0, WIDTH / picture.shape[1])
    rows, columns = (max(2, round(side * scale) & ~1) for side in picture.shape[:2])
    small: Uint8Array = np.asarray(cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    share = comparison.agreement.per_frame[index]
    halves = []
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        found = _scaled(side.found[index], columns / picture.shape[1], rows / picture.shape[0])
        canvas = BgrCanvas(small.copy())
        paint(canvas, found, comparison.a.labels)
        text = f"{name}: {Path(side.path).name}  {len(found)} found, frame {capture.index}"
        caption(canvas, text if name == "A" else f"{text}, {percent(share)} the same")
        halves.append(canvas.picture)
    result: Uint8Array = np.hstack([halves[0], np.full((rows, 4, 3), 255, np.uint8), halves[1]])
    return result


def _scaled(found: Detections, x: float, y: float) -> Detections:
    return replace(found, xyxy=(found.xyxy * np.array([x, y, x, y], np.float32)).astype(np.float32))


def _write(path: Path, picture: Uint8Array) -> None:
    good, data = cv2.imencode(".png", picture)
    if not good:
        raise SinkError(f"{path}: the picture could not be encoded")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error
