# SPDX-License-Identifier: Apache-2.0
"""Where a picture lies inside a network input, and the exact mapping back to source pixels."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.errors import StageError
from pipeline.frame import Geometry, InputSpec


class Box(NamedTuple):
    """A rectangle of whole pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


def place(width: int, height: int, spec: InputSpec) -> Box:
    """Where a picture of ``width`` x ``height`` pixels lies in a network input of ``spec``.

    With ``r = min(spec.height / height, spec.width / width)``:

    - ``letterbox`` (Ultralytics ``LetterBox``): size ``round(width * r)`` x ``round(height * r)``; left
      ``round(gap_x / 2 - 0.1)`` and top ``round(gap_y / 2 - 0.1)``, so that an odd gap puts its extra pixel right and
      below, where that convention has ``round(gap / 2 + 0.1)``.
    - ``top_left`` (YOLOX ``preproc``): size ``int(width * r)`` x ``int(height * r)`` at (0, 0).
    - ``stretch``: the whole input.

    The products are those of the two conventions in double precision, digit for digit, so that a network sees the
    pixels that it was trained and evaluated with. A side is never under 1 pixel nor over the input's.
    """
    if spec.fit == "stretch":
        return Box(0, 0, spec.width, spec.height)
    ratio = min(spec.height / height, spec.width / width)
    if spec.fit == "letterbox":
        inner_width = min(spec.width, max(1, round(width * ratio)))
        inner_height = min(spec.height, max(1, round(height * ratio)))
        left = round((spec.width - inner_width) / 2 - 0.1)
        top = round((spec.height - inner_height) / 2 - 0.1)
        return Box(left, top, inner_width, inner_height)
    return Box(0, 0, max(1, int(width * ratio)), max(1, int(height * ratio)))


def fit(source_w: int, source_h: int, spec: InputSpec, region: tuple[int, int, int, int] | None = None) -> Geometry:
    """The mapping of a picture, or of one region of it, to a network input of ``spec``.

    Args:
        source_w, source_h: the picture as displayed, in pixels, each at least 2.
        spec: the network input.
        region: left, top, width and height in whole displayed pixels of the part that the network sees; None: all.

    Returns:
        A geometry whose ``scale_x`` and ``scale_y`` are the exact quotient of the resized size, a whole number of
        network pixels (:func:`place`), and the size of the region: not the common ratio that led to that size before
        it was rounded. So the borders of the picture map to the borders of the resized picture, and the way back has
        no rounding bias; the two scales may differ by a fraction of a percent. Coordinates are those of pixel
        borders: the first pixel spans 0..1.

    Raises:
        StageError: the picture or the region is smaller than 2 x 2 pixels, or the region leaves the picture.
    """
    x, y, width, height = (0, 0, source_w, source_h) if region is None else region
    if width < 2 or height < 2:
        raise StageError(f"a picture of {width}x{height} pixels is too small; at least 2x2 are needed")
    if x < 0 or y < 0 or x + width > source_w or y + height > source_h:
        raise StageError(f"the region {width}x{height} at ({x}, {y}) leaves the picture of {source_w}x{source_h}")
    inner = place(width, height, spec)
    return Geometry(
        source_width=source_w,
        source_height=source_h,
        scale_x=inner.width / width,
        scale_y=inner.height / height,
        pad_x=float(inner.x),
        pad_y=float(inner.y),
        offset_x=float(x),
        offset_y=float(y),
    )
