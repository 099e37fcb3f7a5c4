# SPDX-License-Identifier: Apache-2.0
"""Pictures to try a model on: a rendered street with people, and parts of it. A frame of a clip in sample_videos/."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from pipeline.frame import InputSpec, Uint8Array

# left, top, right, bottom of a 640 x 360 scene: the whole of it first, then parts, all of about 16:9
_VIEWS = ((0, 0, 640, 360), (0, 90, 480, 360), (160, 90, 640, 360), (100, 60, 580, 330), (0, 0, 560, 315))


def probe_picture(spec: InputSpec, number: int) -> Uint8Array:
    """Picture ``number`` in the size and channel order of ``spec``, (height, width, 3) uint8; repeatable.

    Five views, then the same mirrored, then all again darker and darker: any two numbers under 40 differ.
    """
    left, top, right, bottom = _VIEWS[number % len(_VIEWS)]
    view = _scene()[top:bottom, left:right]
    if number // len(_VIEWS) % 2:
        view = view[:, ::-1]
    if spec.colour == "bgr":
        view = view[..., ::-1]
    resized = cv2.resize(np.ascontiguousarray(view), (spec.width, spec.height), interpolation=cv2.INTER_AREA)
    brightness = 0.8 ** (number // (2 * len(_VIEWS)))
    return (resized * brightness).astype(np.uint8)


@lru_cache(maxsize=1)
def _scene() -> Uint8Array:
    coded = np.frombuffer(Path(__file__).with_name("probe.jpg").read_bytes(), np.uint8)
    picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    if picture is None:
        raise RuntimeError("probe.jpg of this package is damaged; install the package again")
    return np.ascontiguousarray(picture[..., ::-1])
