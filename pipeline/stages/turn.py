# SPDX-License-Identifier: Apache-2.0
"""Turning a picture upright."""

from __future__ import annotations

from typing import Final

import cv2

from pipeline.frame import Rotation, Uint8Array

_CODES: Final[dict[int, int]] = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def turn(source: Uint8Array, rotation: Rotation, out: Uint8Array) -> None:
    """Write ``source`` (rows, columns, 3), turned clockwise by 90, 180 or 270 degrees, into ``out``."""
    cv2.rotate(source, _CODES[rotation], out)
