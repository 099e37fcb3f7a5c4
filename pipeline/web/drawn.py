# SPDX-License-Identifier: Apache-2.0
"""A result as a JPEG: its picture with the boxes drawn in."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from pipeline.errors import StageError
from pipeline.frame import Detections, Picture, Result
from pipeline.sinks.drawing import draw_detections
from pipeline.stages.display import full_picture

QUALITY = 80


def drawn(result: Result, picture: Picture, most: int | None = None) -> bytes:
    """JPEG of ``picture`` with the detections of ``result``; its longer side has ``most`` pixels at most.

    It is made smaller before it is drawn upon, so that lines and letters stay sharp. Raises StageError.
    """
    bgr = full_picture(picture, "bgr")
    height, width = bgr.shape[:2]
    scale = 1.0 if most is None else min(1.0, most / max(width, height))
    detections = result.detections
    if scale < 1.0:
        size = max(2, round(width * scale)), max(2, round(height * scale))
        bgr = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
        detections = _scaled(detections, size[0] / width, size[1] / height)
    draw_detections(bgr, detections, result.labels)
    written, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not written:
        raise StageError(f"{result.stream}: frame {result.frame} could not be written as a JPEG")
    return bytes(data)


def _scaled(detections: Detections, x: float, y: float) -> Detections:
    return replace(detections, xyxy=detections.xyxy * np.array([x, y, x, y], np.float32))
